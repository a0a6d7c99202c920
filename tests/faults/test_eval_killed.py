"""An evaluation killed again and again ends with the bytes of one that was left alone."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from support.clips import make_clip

ITEMS = 60


def command(data: Path, output: Path) -> list[str]:
    words = ["eval", "jsonl", str(data), "-m", "echo", "--num-frames", "2", "-o", str(output)]
    return [sys.executable, "-m", "kinema", *words]


def answered(output: Path) -> int:
    ledger = output / "echo" / "ledger.sqlite"
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        try:
            (count,) = database.execute("SELECT COUNT(*) FROM unit WHERE state = 'done'").fetchone()
        except sqlite3.OperationalError:  # no table yet, or locked for a moment
            return 0
    return int(count)


def kill_after(data: Path, output: Path, more: int) -> bool:
    """Start the command and kill it when ``more`` answers came; False when it ended before."""
    wanted = answered(output) + more
    with subprocess.Popen(
        command(data, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and answered(output) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def test_a_run_killed_and_resumed_has_the_same_numbers(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(ITEMS):
        make_clip(data / f"{i}.mp4", num_frames=5 + i % 7)
    rows = [
        {"video": f"{i}.mp4", "question": f"is it {i}?", "answer": f"it {i}"} for i in range(ITEMS)
    ]
    (data / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    killed = [kill_after(data, tmp_path / "cut", more) for more in (1, 10, 5)]
    assert any(killed)
    for output in ("whole", "cut"):
        subprocess.run(command(data, tmp_path / output), check=True, capture_output=True)
    for name in ("predictions.jsonl", "results.json", "run.json"):
        whole, cut = (tmp_path / o / "echo" / name for o in ("whole", "cut"))
        assert cut.read_bytes() == whole.read_bytes(), name
