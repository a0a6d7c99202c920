"""docs/differences.json, by scripts/differences.py, names every type and no difference."""

from __future__ import annotations

import json
from pathlib import Path

from kinema.families import FAMILIES
from support.tiny_families import HF_FAMILIES
from support.tiny_types import TYPES

FOUND = json.loads(
    (Path(__file__).parents[3] / "docs" / "differences.json").read_text(encoding="utf-8")
)
CLASSES_OF_OURS = {"tiny", "videolm", "video-chatgpt", "neva"}
COMPARED = ("alone", "ragged batch", "second turn", "bf16 positions", "adapter", "nf4")


def test_every_type_is_compared():
    assert list(FOUND) == [*HF_FAMILIES, *TYPES]
    on_hf = {family.name for family in FAMILIES.values() if "hf" in family.engines}
    assert on_hf - CLASSES_OF_OURS <= set(FOUND)


def test_nothing_differs():
    assert {tuple(row) for row in FOUND.values()} == {COMPARED}
    assert [(n, c) for n, row in FOUND.items() for c, cell in row.items() if cell != "same"] == []
