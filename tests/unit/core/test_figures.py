"""The figures that scripts/figures.py prints, of a package small enough to count by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "figures.py"
FILES = {
    "__init__.py": '"""The package."""\n',
    "errors.py": '"""Errors."""\n\n\nclass Problem(Exception):\n    """A problem."""\n',
    "ledger.py": "from kinema.errors import Problem\n\n# Why.\nVALUE = 1  # not a comment line\n",
    "jobs/runner.py": "from kinema.ledger import VALUE\n\n\ndef run():\n    return VALUE\n",
    "tasks/answer/job.py": "TARGET = 'kinema.tasks.answer.say:speak'\n",
    "tasks/answer/say.py": "def speak():\n    from kinema.tasks.answer import job\n",
    "tasks/answer/typed.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from kinema.tasks.answer.kin import A\n"
    ),
    "tasks/answer/kin.py": "from kinema.tasks.answer.typed import B\n",
    "tasks/answer/settings.py": (
        "@dataclass(frozen=True)\nclass Settings:\n    one: int\n    two: int = 2\n"
        "    three: int = 3\n    four: int = 4\n    five: ClassVar[int] = 5\n\n"
        "@dataclass(frozen=True)\nclass Value:\n    one: int\n    two: int = 2\n"
    ),
}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_package_is_counted(script, tmp_path):
    package = tmp_path / "src" / "kinema"
    for name, text in FILES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)

    found = script.figures(package)

    assert found["src"] == {"files": 9, "lines": 34, "statements": 22}
    assert found["first layout"] == {"files": 1, "lines": 4, "statements": 2}
    assert found["second layout"]["files"] == 6
    assert found["verbs"]["answer"]["files"] == 5
    assert found["verbs"]["caption"] == {"files": 0, "lines": 0, "statements": 0}
    assert found["settings"] == {"classes": 1, "fields": 4}
    typed = ["kinema.tasks.answer.kin", "kinema.tasks.answer.typed"]
    told = ["kinema.tasks.answer.job", "kinema.tasks.answer.say"]
    assert found["cycles"] == {
        "of imports": [],
        "and for type checkers": [typed],
        "and inside functions": [typed],
        "and in text": [told, typed],
    }
    assert (found["references in text"], found["comment percent"]) == (1, round(100 / 34, 2))
    assert "cycles and in text: 2" in script.table(found)


def test_components_of_a_graph(script):
    graph = {"a": "b", "b": "c", "c": "a", "d": "ae", "e": "d", "f": "f"}
    assert sorted(map(sorted, script.components(graph))) == [["a", "b", "c"], ["d", "e"], ["f"]]
