"""A caption command to stop, and how far it has come."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from support.clips import make_clip


def make_videos(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        make_clip(folder / f"{i:03d}.mp4", num_frames=20 + i % 13, fps=5)


def command(videos: Path, output: Path) -> list[str]:
    words = [videos, "-o", output, "-m", "echo", "--export", "srt,vtt,json,csv,parquet"]
    settings = ["--batch-size", "2", "--chapter-seconds", "2", "--quiet"]
    return [sys.executable, "-m", "kinema", "caption", *map(str, words), *settings]


def answered(output: Path) -> int:
    """Answers of the model that are on the disk."""
    path = output / ".kinema" / "answers.sqlite"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM answer").fetchone()[0])
    except sqlite3.OperationalError:  # no table yet
        return 0
