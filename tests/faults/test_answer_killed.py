"""``kinema answer`` killed at random points and resumed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys

from support.clips import make_clip

KINEMA_AS_OFTEN_AS_ASKED = """
import os, signal, sys
import kinema.tasks.answer, kinema.engines.echo, kinema.video  # paid for once
from kinema.cli.app import run

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        # Ends the process where it stands once it has used so much time of a processor, as
        # kill -9 would: nothing handles this signal. So a busy machine moves no point.
        signal.setitimer(signal.ITIMER_PROF, float(line))
        os._exit(run(sys.argv[1:]))
    _, status, used = os.wait4(child, 0)
    print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)
"""


class Command:
    """``kinema`` words that are run many times, a process each, and may be killed."""

    def __init__(self, *words):
        self._mother = subprocess.Popen(
            [sys.executable, "-c", KINEMA_AS_OFTEN_AS_ASKED, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._mother.communicate()

    def run(self, *, kill_after=0.0):
        """Exit status, negative for the signal that ended it, and processor seconds used."""
        self._mother.stdin.write(f"{kill_after}\n")
        self._mother.stdin.flush()
        status, used = self._mother.stdout.readline().split()
        return int(status), float(used)


def test_twenty_kills_and_a_resumed_run_give_the_same_bytes(tmp_path):
    for i in range(3):
        make_clip(tmp_path / f"video_{i}.mp4", num_frames=12 + i)
    records = [{"video": f"video_{i % 3}.mp4", "text": f"Question {i}"} for i in range(300)]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("\n".join(json.dumps(record) for record in records))
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    words = ["answer", str(prompts), "-m", "echo", "--media-base-path", str(tmp_path), "-q"]
    words += ["--insert-media-token", "right", "--batch-size", "4", "-o"]
    with Command(*words, str(whole)) as command:
        status, seconds = command.run()
    assert status == 0
    assert len(whole.read_text().splitlines()) == len(records)
    chance = random.Random(0)
    with Command(*words, str(killed)) as command:
        kills = 0
        while kills < 20:
            status, _ = command.run(kill_after=chance.uniform(0.02, 0.4) * seconds)
            assert status in {0, -signal.SIGPROF}
            kills += status != 0
            if status == 0:  # it got through: begin again, so that all twenty fall into the work
                assert killed.read_bytes() == whole.read_bytes()
                killed.unlink()
                killed.with_name(".killed.jsonl.ledger").unlink()
        assert command.run()[0] == 0
    assert killed.read_bytes() == whole.read_bytes()
