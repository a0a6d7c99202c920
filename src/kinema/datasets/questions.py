"""What the Breakfast fork of Video-ChatGPT asks about a recording, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kinema.datasets.recordings import Recording
from kinema.datasets.segments import Segment
from kinema.errors import UsageError
from kinema.textfiles import read_lines

_HEADER = re.compile(r"\s*Format\s+\d+\s*:?\s*", re.IGNORECASE)
_RANGE = re.compile(r"(\s*(?:[-*•]\s+)?)(\d+)(\s*-\s*)(\d+)(?!\d)(.*)")
_SEGMENTS = "List down all the segments. action is {activity}"
"""Word for word: released checkpoints were trained on it."""
_SEGMENTS_ALONE = "What are the segments in the video and their frames ?"
"""The fork's other question, which gives no activity away."""

Move = Callable[[int], int]
"""A frame number, counted from one, to that of another time base."""


@dataclass(frozen=True)
class Exchange:
    """A question about a recording, with its answer."""

    question: str
    answer: str
    asks_segments: bool = False


def segments_exchange(
    recording: Recording, segments: tuple[Segment, ...], *, hide_activity: bool = False
) -> Exchange:
    """The question for all segments; one line ``start-end words`` each."""
    question = _SEGMENTS_ALONE if hide_activity else _SEGMENTS.format(activity=recording.activity)
    return Exchange(question, as_lines(segments), asks_segments=True)


def as_lines(segments: tuple[Segment, ...]) -> str:
    """Segments as Breakfast's label files write them: from 1, each end the next one's start."""
    last = len(segments) - 1
    return "\n".join(
        f"{s.start + 1}-{s.end + (place < last)} {s.label.replace('_', ' ')}"
        for place, s in enumerate(segments)
    )


def read_exchanges(path: Path, *, move: Move = lambda frame: frame) -> list[Exchange]:
    """Questions and answers that a language model wrote about one recording.

    ``Q: …`` begins a question, ``A: …`` and the lines behind it are the answer; empty lines and
    headers ``Format 1:`` are nothing. Ranges at the beginning of a line go through ``move``.

    Raises:
        UsageError: an answer stands before any question, or a question has none.
    """
    exchanges: list[Exchange] = []
    for question, lines in _blocks(path):
        if not question or not lines:
            what = "an answer without a question" if lines else f"no answer to {question!r}"
            raise UsageError(f"{path} holds {what}.", hint="Write Q: and A: in turn.")
        answer = "\n".join(moved(line, move) for line in lines)
        exchanges.append(Exchange(question, answer))
    return exchanges


def moved(line: str, move: Move) -> str:
    """A line whose leading ``start-end`` is in another time base; other numbers stay."""
    match = _RANGE.fullmatch(line)
    if match is None:
        return line
    blanks, start, dash, end, rest = match.groups()
    return f"{blanks}{move(int(start))}{dash}{move(int(end))}{rest}"


def _blocks(path: Path) -> Iterator[tuple[str, list[str]]]:
    question, lines, began = "", list[str](), False
    for _, line in read_lines(path):
        if _HEADER.fullmatch(line):
            continue
        if line.lstrip().startswith("Q:"):
            if began:
                yield question, lines
            question, lines, began = line.lstrip()[2:].strip(), [], True
        else:
            text = line.strip()
            lines.append(text[2:].strip() if text.startswith("A:") else text)
            began = True
    if began:
        yield question, [line for line in lines if line]
