from __future__ import annotations

import pytest

from kinema.cli import COMMANDS
from kinema.engines import ENGINES
from kinema.errors import MissingPackage, UnknownName
from kinema.lazy import Row, Table


@pytest.mark.parametrize("table", [COMMANDS, ENGINES], ids=lambda t: t.kind)
def test_every_row_of_every_table_loads(table):
    for name in table:
        if table[name].missing:
            with pytest.raises(MissingPackage, match=name):
                table.load(name)
        else:
            assert callable(table.load(name))


def test_an_unknown_name_is_refused_with_a_near_match():
    with pytest.raises(UnknownName) as caught:
        COMMANDS.load("chta")
    assert "'chat'" in caught.value.hint


def test_a_missing_package_names_the_command_that_installs_it():
    table = Table("engine", {"warp": Row("warp.drive:Engine", needs=("warp",), install="get warp")})
    with pytest.raises(MissingPackage) as caught:
        table.load("warp")
    assert "get warp" in caught.value.hint
