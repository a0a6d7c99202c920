"""What people and pipes get to read: records, sentences, escapes."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Self

from kinema.captioning.text import short_clock
from kinema.errors import KinemaError, UsageError
from kinema.jobs.progress import Progress

STDIN = "\0stdin"
"""Stands for a lone ``-`` among the words; no shell can pass a NUL."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """``text`` without terminal escapes, control characters and direction overrides."""
    return _CONTROL.sub("", _ESCAPES.sub("", text))


def put(text: str, *, end: str = "\n") -> None:
    """Print a result; cleaned where a terminal would obey what is in it."""
    sys.stdout.write((plain(text) if sys.stdout.isatty() else text) + end)
    sys.stdout.flush()


def leave_stdout() -> None:
    """Drop what is still printed: whoever read the output has left.

    Not even the interpreter, which flushes at its end, tries to write it.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def put_record(record: Any) -> None:
    """Print one JSON record on one line."""
    put(json.dumps(record, ensure_ascii=False))


def put_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (plain(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        put("  ".join(cells).rstrip())


def say(text: str) -> None:
    """Tell the person something that is no result."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


JOB_LOG_SECONDS = 60.0


class Status:
    """What is going on, on the last line of a terminal.

    Args:
        log_seconds: how often a log, which is no terminal, gets the line; never by itself.
    """

    def __init__(self, *, log_seconds: float | None = None) -> None:
        self._log_seconds = log_seconds
        self._shown = ""
        self._logged = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show ``text`` in place of what stood there."""
        if not sys.stderr.isatty():
            self._log(text)
            return
        self.clear()
        self._shown = plain(text)
        sys.stderr.write(self._shown)
        sys.stderr.flush()

    def _log(self, text: str) -> None:
        now = time.monotonic()
        if self._log_seconds is not None and now - self._logged >= self._log_seconds:
            self._logged = now
            say(text)

    def clear(self) -> None:
        """Take the line away before something else is written."""
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")
            sys.stderr.flush()
            self._shown = ""


class JobStatus:
    """What a job says on stderr: what it found, what failed, and how far it is.

    Args:
        noun: what its units are called.
        quiet: say what failed, and no more.
        complains: say what failed; else the records do.
        show_bar: draw how much is done.
    """

    def __init__(
        self, noun: str, *, quiet: bool = False, complains: bool = True, show_bar: bool = False
    ) -> None:
        self._noun = noun
        self._complains = complains
        self._quiet = quiet
        self._show_bar = show_bar
        self._status = Status(log_seconds=JOB_LOG_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, progress: Progress) -> None:
        """Tell one step of the job."""
        self._status.clear()
        if progress.problem is not None and self._complains:
            complain(progress.problem)
        if not self._quiet:
            if progress.found:
                say(f"note: {progress.found}")
            self._status(self._line(progress))

    def clear(self) -> None:
        """Take the line away before something else is written."""
        self._status.clear()

    def _line(self, progress: Progress) -> str:
        done = f"{progress.ended} of {progress.of} {self._noun}"
        video = progress.video_seconds
        left = progress.eta_seconds if progress.ended < progress.of else None
        parts = [
            f"{bar(progress.ended, progress.of)} {done}" if self._show_bar else done,
            f"{short_clock(video)} of video" if video else "",
            f"{progress.failed} failed" if progress.failed else "",
            "" if left is None else f"{short_clock(left)} left",
        ]
        return ", ".join(filter(None, parts))


def bar(done: int, total: int, *, width: int = 24) -> str:
    """``[######------]``: how much of the work is done."""
    filled = width * done // max(1, total)
    return f"[{'#' * filled}{'-' * (width - filled)}]"


def complain(error: KinemaError) -> None:
    """Tell what went wrong and what to do next."""
    say(f"kinema: {error}")
    if error.hint:
        say(f"  {error.hint}")


def read_stdin() -> str:
    """All of stdin as text.

    Raises:
        UsageError: nothing is piped in, or it is not UTF-8.
    """
    try:
        text = sys.stdin.read().strip()
    except UnicodeDecodeError as problem:
        raise UsageError("stdin is not UTF-8 text.", hint="A prompt is text.") from problem
    if not text:
        raise UsageError("'-' reads the prompt from stdin, which is empty.", hint="Pipe a prompt.")
    return text


def source_of(word: str) -> str | bytes:
    """A source as it was typed; ``-`` is the video on stdin.

    Raises:
        UsageError: nothing is piped in.
    """
    if word != STDIN:
        return word
    data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    if not data:
        raise UsageError("'-' reads the video from stdin, which is empty.", hint="Pipe a video.")
    return data
