"""docs/lwm.md names a test for every defect of the original that is gone: each exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", (ROOT / "docs" / "lwm.md").read_text())
    assert len(named) > 30
    missing = [(path, name) for path, name in named if name not in functions(path)]
    assert not missing


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
