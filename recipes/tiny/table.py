"""The held-out table: each skill beside chance, the most frequent answer and the blind baseline.

python recipes/tiny/table.py SCENES SCORES table.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

BARS = {
    "naming": 90,
    "naming, unseen style": 60,
    "colour": 90,
    "count": 85,
    "direction": 90,
    "first": 90,
    "presence": 90,
}
"""Percent of exact matches, after normalisation, that the recipe aims at."""


def table(scenes: Path, scores: Path) -> dict[str, Any]:
    """A row a skill, in percent."""
    about = json.loads((scenes / "about.json").read_text())
    seen, blind = (_by_skill(scores, blind=flag) for flag in (False, True))
    usual = most_frequent(scenes / "test.jsonl")
    rows = {
        skill: {
            "items": seen[skill]["items"],
            "score": seen[skill]["score"],
            "chance": about["chance"][skill.partition(",")[0]],
            "most frequent answer": usual[skill],
            "blind": blind[skill]["score"],
            "bar": bar,
        }
        for skill, bar in BARS.items()
    }
    return {"names": about["names"], "art": about["art"], "skills": rows}


def most_frequent(test: Path) -> dict[str, float]:
    """Percent that always giving one skill's commonest answer would get right."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for line in test.read_text().splitlines():
        row = json.loads(line)
        answers[row["groups"]["skill"]][row["answers"][0]] += 1
    return {
        skill: round(100 * counts.most_common(1)[0][1] / counts.total(), 1)
        for skill, counts in answers.items()
    }


def _by_skill(scores: Path, *, blind: bool) -> dict[str, dict[str, float]]:
    """Items and normalised match of each skill, from what ``kinema eval`` wrote."""
    runs = scores.glob("*/results.json")
    (path,) = (run for run in runs if run.parent.name.endswith("+blind") == blind)
    found = json.loads(path.read_text())["tables"]["skill"]
    return {
        skill: {"items": row["items"], "score": round(row["normalised_match"], 1)}
        for skill, row in found.items()
    }


if __name__ == "__main__":
    text = json.dumps(table(Path(sys.argv[1]), Path(sys.argv[2])), indent=2) + "\n"
    Path(sys.argv[3]).write_text(text)
    print(text)
