"""A command that is run many times and killed at points of its work."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Self

KILLS = int(os.environ.get("KINEMA_KILLS", "8"))
"""How often a test kills its command."""

_RUN_AND_KILL = """
import os, signal, sys, time
import {imports}  # paid for once
from kinema.cli.app import run

TICKS = os.sysconf("SC_CLK_TCK")

def used(child):
    # Seconds of a processor, so that a busy machine moves no point.
    with open(f"/proc/{{child}}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS

for line in sys.stdin:
    limit = float(line)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        os._exit(run(sys.argv[1:]))
    seconds = 0.0
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        seconds = used(child)
        if limit and seconds >= limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), seconds, flush=True)
"""


class Command:
    """``kinema`` words that are run many times, a process each.

    Args:
        words: behind ``kinema``.
        imports: modules that every process finds imported.
    """

    def __init__(self, *words: str, imports: str) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-c", _RUN_AND_KILL.format(imports=imports), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads of OpenMP spin while they wait, and a point of the work would move with them.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mother.communicate()

    def run(self, *, kill_after: float = 0.0) -> tuple[int, float]:
        """Exit status, negative for the signal that ended it, and processor seconds used.

        Args:
            kill_after: processor seconds after which SIGKILL is sent; 0 for never.
        """
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{kill_after}\n")
        self._mother.stdin.flush()
        for line in self._mother.stdout:
            if line.startswith("ended "):  # other lines are what the command printed
                _, status, seconds = line.split()
                return int(status), float(seconds)
        raise AssertionError("the command's mother process is gone")
