"""Packages that bring rows of tables by an entry point."""

from __future__ import annotations

import sys

import pytest

from kinema.captioning.result import DEMO_MODELS
from kinema.errors import UsageError
from kinema.families import FAMILIES
from kinema.families.checkpoint import Checkpoint
from kinema.plugins import load_plugins
from kinema.tasks.models import find_model

CODE = """
from kinema.captioning.result import DEMO_MODELS
from kinema.families import Family, add_family

def register():
    add_family(Family(name="brought", title="Brought", example="brought", engines=("echo",),
                      config_required=False))
    DEMO_MODELS["Brought_1"] = "brought"

def break_off():
    raise ValueError("nothing is here")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package whose entry point is the named function."""

    def install(function):
        (tmp_path / "brought_module.py").write_text(CODE)
        facts = tmp_path / "brought-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[kinema]\nmine = brought_module:{function}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        load_plugins.cache_clear()

    yield install
    load_plugins.cache_clear()
    sys.modules.pop("brought_module", None)
    FAMILIES.pop("brought", None)
    DEMO_MODELS.pop("Brought_1", None)


def test_a_family_of_a_package_is_found_by_name(installed):
    installed("register")
    found = find_model("brought")
    assert found.family == FAMILIES["brought"]
    assert found.engine == "echo"
    assert found.checkpoint == Checkpoint("brought", None, {})
    assert DEMO_MODELS["Brought_1"] == "brought"


def test_one_that_fails_is_named(installed):
    installed("break_off")
    with pytest.raises(UsageError, match=r"mine.*brought_module:break_off.*nothing is here"):
        find_model("echo")
