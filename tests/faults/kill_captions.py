"""Kill ``kinema caption`` again and again and see that the end is as if nothing had happened.

python tests/faults/kill_captions.py --videos 100 --kills 50
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.clips import make_clip

_POLL_SECONDS = 0.003


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


def kill_at(videos: Path, output: Path, wanted: int, pause: float) -> bool:
    """Start the command, kill it a moment after ``wanted`` answers; False when it ended before."""
    with subprocess.Popen(
        command(videos, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and answered(output) < wanted:
            time.sleep(_POLL_SECONDS)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def contents(output: Path) -> dict[str, bytes]:
    """Every file that the user gets."""
    files = (path for path in sorted(output.iterdir()) if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def asked_twice(output: Path) -> int:
    """Videos that are in the ledger more than once, or not done."""
    path = output / ".kinema" / "videos.sqlite"
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT COUNT(*), COUNT(DISTINCT payload), SUM(state = 'done') FROM unit"
        units, videos, done = database.execute(query).fetchone()
    return int(2 * units - videos - done)


def kill_and_compare(folder: Path, *, num_videos: int, kills: int, seed: int = 0) -> int:
    """Run once untouched and once killed ``kills`` times; returns how many kills hit.

    Raises:
        AssertionError: a file differs, is missing or left over.
    """
    chance = random.Random(seed)
    videos = folder / "videos"
    make_videos(videos, num_videos)
    subprocess.run(command(videos, folder / "whole"), check=True, capture_output=True)
    total = answered(folder / "whole")
    points = sorted(chance.randrange(total) for _ in range(kills))
    pauses = [chance.random() * 0.05 for _ in range(kills)]
    pairs = zip(points, pauses, strict=True)
    hits = sum(kill_at(videos, folder / "cut", p, pause) for p, pause in pairs)
    subprocess.run(command(videos, folder / "cut"), check=True, capture_output=True)
    whole, cut = contents(folder / "whole"), contents(folder / "cut")
    assert cut.keys() == whole.keys()
    assert [name for name in whole if whole[name] != cut[name]] == []
    assert asked_twice(folder / "cut") == 0
    assert answered(folder / "cut") == total
    return hits


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        hit = kill_and_compare(Path(temporary), num_videos=given.videos, kills=given.kills)
        print(f"{hit} of {given.kills} kills hit a running job; all files are the same bytes")
