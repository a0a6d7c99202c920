"""SIGTERM ends a job as Ctrl-C does: attempts are given back, and the run goes on later."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from support.stopped import answered, command, make_videos


def states(output: Path) -> dict[str, int]:
    """How many videos are in each state, as the process left them."""
    with closing(sqlite3.connect(output / ".kinema" / "videos.sqlite")) as database:
        return dict(database.execute("SELECT state, COUNT(*) FROM unit GROUP BY state"))


@pytest.mark.parametrize("ignores_ctrl_c", [False, True], ids=["plain", "in the background"])
def test_sigterm_gives_the_attempts_back(tmp_path, ignores_ctrl_c):
    videos, output = tmp_path / "videos", tmp_path / "out"
    make_videos(videos, 60)
    words = command(videos, output)
    if ignores_ctrl_c:  # as a shell does for what it starts with &
        words = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *words]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as job:
        while answered(output) < 1:
            assert job.poll() is None
            time.sleep(0.005)
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=120)
    assert job.returncode == 143, said
    assert "kinema: terminated" in said
    assert "Traceback" not in said
    assert states(output).keys() <= {"todo", "done"}  # none looks as if it had killed the process
    assert states(output)["todo"] > 0
    assert not (output / "captions.jsonl").exists()
    before = answered(output)
    subprocess.run(command(videos, output), check=True, capture_output=True)
    assert answered(output) > before
    assert len((output / "captions.jsonl").read_text().splitlines()) == 60
