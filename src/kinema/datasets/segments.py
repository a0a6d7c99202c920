"""Action segments: as text that models write, as runs, as one label a frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from kinema.errors import UsageError
from kinema.types import parse_seconds

Ends = Literal["exclusive", "inclusive"]
"""Whether the second number of ``1-30`` still belongs to the segment.

Breakfast's ``.avi.labels`` repeat it as the next start (exclusive); its coarse release and 50Salads
go on one later (inclusive). Both count frames from 1.
"""

_TIME = r"\d+(?::\d{1,2}){0,2}(?:\.\d+)?"
_UNIT = r"\s*(?:seconds?|secs?|s|frames?)?\b"
_RANGE = (
    rf"(?:from\s+|frames?\s+)?(?P<start>{_TIME})(?P<unit>{_UNIT})\s*(?:-|–|—|to|until|till)\s*"
    rf"(?P<end>{_TIME})(?P<unit2>{_UNIT})"
)
_BULLET = r"\s*(?:[-*•]\s+|\d+[.)]\s+)?"
_RANGE_FIRST = re.compile(
    rf"{_BULLET}[(\[]?{_RANGE}[)\]]?\s*[:,;=-]?\s*(?P<label>[^\W\d].*?)\s*\.?\s*", re.IGNORECASE
)
_LABEL_FIRST = re.compile(
    rf"{_BULLET}(?P<label>[^\d\s(\[:].*?)\s*[:,(\[=-]*\s*{_RANGE}[)\]]?\s*\.?\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Segment:
    """One action over the half-open range of frames ``[start, end)``, counted from 0."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Parsed:
    """What a text says about segments, and what in it could not be read."""

    segments: tuple[Segment, ...]
    unparsed_lines: tuple[str, ...] = ()
    unknown_labels: tuple[str, ...] = ()
    """Labels outside the vocabulary; their frames count as wrong."""

    def frames(self, num_frames: int, *, fill: str) -> list[str]:
        """One label a frame; later segments overwrite earlier ones, gaps hold ``fill``."""
        labels = [fill] * num_frames
        for segment in self.segments:
            end = min(segment.end, num_frames)
            labels[segment.start : end] = [segment.label] * max(0, end - segment.start)
        return labels


def parse_segments(
    text: str,
    *,
    ends: Ends = "exclusive",
    fps: float | None = None,
    vocabulary: Iterable[str] = (),
    last_end: int | None = None,
) -> Parsed:
    """Read lines like ``1-30 take bowl``, ``0:05 - 0:12: stir milk`` or ``stir milk (4.5s-9s)``.

    Whole numbers are frames counted from 1. Numbers with a colon, a point or the unit seconds are
    times, and need ``fps``.

    Args:
        text: the reply, or the truth in the same form; empty lines are no lines.
        ends: whether the second frame number belongs to the segment.
        fps: frames a second; without it a line of times is unparsed.
        vocabulary: labels to match in any case, with blanks or underscores; empty keeps all.
        last_end: with exclusive ends, the number of frames: a segment that ends there includes it.
    """
    known = {_key(label): label for label in vocabulary}
    segments, unparsed, unknown = [], [], []
    for line in filter(str.strip, text.splitlines()):
        segment = _parse_line(line, ends, fps, last_end)
        if segment is None:
            unparsed.append(line.strip())
            continue
        label = known.get(_key(segment.label), segment.label)
        if known and _key(label) not in known:
            unknown.append(label)
        segments.append(Segment(segment.start, segment.end, label))
    return Parsed(tuple(segments), tuple(unparsed), tuple(unknown))


def _parse_line(line: str, ends: Ends, fps: float | None, last_end: int | None) -> Segment | None:
    match = _RANGE_FIRST.fullmatch(line) or _LABEL_FIRST.fullmatch(line)
    if match is None:
        return None
    bounds = _bounds(match.groupdict(), ends, fps, last_end)
    if bounds is None or bounds[0] >= bounds[1]:
        return None
    return Segment(*bounds, "_".join(match["label"].split()))


def _bounds(
    found: Mapping[str, str], ends: Ends, fps: float | None, last_end: int | None
) -> tuple[int, int] | None:
    start, end = found["start"], found["end"]
    units = (found["unit"] + found["unit2"]).lower()
    if ":" in start + end or "." in start + end or "s" in units.replace("frames", ""):
        return None if fps is None else _from_seconds(start, end, fps)
    includes = ends == "inclusive" or int(end) == last_end
    return max(0, int(start) - 1), int(end) - (0 if includes else 1)


def _from_seconds(start: str, end: str, fps: float) -> tuple[int, int] | None:
    try:
        return round(parse_seconds(start) * fps), round(parse_seconds(end) * fps)
    except UsageError:  # 1:75 is no time
        return None


def _key(label: str) -> str:
    return re.sub(r"[\W_]+", "", label.lower())


def runs(labels: Sequence[str]) -> list[Segment]:
    """Maximal runs of equal labels, in order."""
    found = []
    start = 0
    for label, run in groupby(labels):
        end = start + len(list(run))
        found.append(Segment(start, end, label))
        start = end
    return found


def as_text(segments: Iterable[Segment], *, ends: Ends = "inclusive") -> str:
    """Lines ``start-end label``, frames from 1, as :func:`parse_segments` reads them."""
    extra = 0 if ends == "inclusive" else 1
    return "\n".join(f"{s.start + 1}-{s.end + extra} {s.label.replace('_', ' ')}" for s in segments)
