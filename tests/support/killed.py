"""A command that is run many times and killed wherever it happens to be."""

from __future__ import annotations

import subprocess
import sys
from typing import Self

_AS_OFTEN_AS_ASKED = """
import os, signal, sys, time
import {imports}  # paid for once
from kinema.cli.app import run

for line in sys.stdin:
    used, mine = os.pipe()
    child = os.fork()
    if child == 0:
        # Ends the process where it stands once it has used so much time of a processor, as
        # kill -9 would: nothing handles this signal. So a busy machine moves no point.
        signal.setitimer(signal.ITIMER_PROF, float(line))
        status = run(sys.argv[1:])
        os.write(mine, str(time.process_time()).encode())  # without that of its own children
        os._exit(status)
    os.close(mine)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), os.read(used, 100).decode() or "0", flush=True)
    os.close(used)
"""


class Command:
    """``kinema`` words that are run many times, a process each, and may be killed.

    Args:
        words: behind ``kinema``.
        imports: modules that every process finds imported.
    """

    def __init__(self, *words: str, imports: str) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-c", _AS_OFTEN_AS_ASKED.format(imports=imports), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mother.communicate()

    def run(self, *, kill_after: float = 0.0) -> tuple[int, float]:
        """Exit status, negative for the signal that ended it, and processor seconds used.

        They are 0 where the command was killed.
        """
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{kill_after}\n")
        self._mother.stdin.flush()
        while True:
            words = self._mother.stdout.readline().split()
            if len(words) == 2 and words[0].lstrip("-").isdigit():  # between what it printed
                return int(words[0]), float(words[1])
            assert words, "the command's mother process is gone"
