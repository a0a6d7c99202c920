"""Files that a small data set is made of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from support.clips import make_clip

_CLIP: list[bytes] = []


def write_clip(path: Path) -> None:
    """One second of video; encoded once, copied everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _CLIP:
        _CLIP.append(make_clip(path.with_suffix(".mp4"), num_frames=25).read_bytes())
    path.write_bytes(_CLIP[0])


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, rows: list[dict[str, Any]], *, delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


FIVE = [f"thing {letter}" for letter in ("north", "south", "east", "west", "centre")]
WORDS = ("dog", "cat", "two", "red ball")
