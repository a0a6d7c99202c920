"""``kinema features`` killed at random points and resumed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from support.clips import make_clip
from support.towers import make_clip as make_clip_tower

KINEMA_AS_OFTEN_AS_ASKED = """
import os, signal, sys, time
import kinema.cli.features, kinema.tasks.features.pipeline  # paid for once
from kinema.cli.app import run

for line in sys.stdin:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Ends the process where it stands once it has used so much time of a processor, as
        # kill -9 would: nothing handles this signal. So a busy machine moves no point.
        signal.setitimer(signal.ITIMER_PROF, float(line))
        status = run(sys.argv[1:])
        os.write(writing, str(time.process_time()).encode())
        os._exit(status)
    os.close(writing)
    used = os.read(reading, 99).decode() or "0"
    os.close(reading)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), used, flush=True)
"""
KILLS = 8


class Command:
    """``kinema`` words that are run many times, a process each, and may be killed."""

    def __init__(self, *words: str) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-c", KINEMA_AS_OFTEN_AS_ASKED, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._mother.communicate()

    def run(self, *, kill_after: float = 0.0) -> tuple[int, float]:
        """Exit status, negative for the signal that ended it, and processor seconds used."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{kill_after}\n")
        self._mother.stdin.flush()
        status, used = self._mother.stdout.readline().split()
        return int(status), float(used)


def seen(folder: Path) -> dict[str, bytes]:
    """Every file that users see, by its path; drafts and the ledger are hidden."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_kills_and_a_resumed_run_give_the_same_files(tmp_path: Path) -> None:
    tower = make_clip_tower(tmp_path / "tower")
    (tmp_path / "videos").mkdir()
    for i in range(12):
        make_clip(tmp_path / "videos" / f"video_{i}.mp4", num_frames=12 + i)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"this is no video" * 99)
    words = ["features", str(tmp_path / "videos"), "--tower", str(tower), "--num-frames", "6"]
    words += ["--augment", "flip", "--workers", "1", "-o"]
    with Command(*words, str(tmp_path / "whole")) as command:
        status, seconds = command.run()
    assert status == 3
    chance = random.Random(0)
    with Command(*words, str(tmp_path / "killed")) as command:
        kills = 0
        while kills < KILLS:
            status, _ = command.run(kill_after=chance.uniform(0.1, 0.6) * seconds)
            assert status in {3, -signal.SIGPROF}
            kills += status != 3
            if status == 3:  # it got through: begin again, so that all kills fall into the work
                assert seen(tmp_path / "killed") == seen(tmp_path / "whole")
                shutil.rmtree(tmp_path / "killed")
        assert command.run()[0] == 3

    whole = seen(tmp_path / "whole")
    assert len(whole) == 2 * 12 + 1
    assert seen(tmp_path / "killed") == whole
