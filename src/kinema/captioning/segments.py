"""Cutting a video into segments, on its clock alone: windows, shots or a given list.

Segments that are cut here cover the whole range; what a given list leaves out is said.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinema.captioning.records import Segment
from kinema.errors import EmptyRange, UsageError
from kinema.ranges import Ranges, require_ranges
from kinema.textfiles import read_cells, read_json
from kinema.types import FrameSampling, parse_seconds
from kinema.video.sampling import select
from kinema.video.shots import Shot
from kinema.video.timeline import Timeline

Cut = Literal["frames", "seconds", "shots", "list"]
_RANGES: Ranges = {
    "batch_size": (lambda count: count >= 1, "1 or more"),
    "window": (lambda seconds: 0 < seconds < math.inf, "above 0"),
    "min_segment": (lambda seconds: seconds >= 0, "0 or more"),
    "max_segment": (lambda seconds: seconds > 0, "above 0"),
}


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How a video is cut into segments, each of which gets one caption.

    Raises:
        UsageError: a length that is not positive, or lengths that contradict each other.
    """

    segment_by: Cut = "frames"
    """Every --batch-size frames, every --window seconds, by shots, or by --segment-list."""
    window: float = 10.0
    """Seconds of a window (--segment-by seconds)."""
    min_segment: float = 0.0
    """Join a segment shorter than this many seconds to its neighbour."""
    max_segment: float | None = None
    """Split a segment longer than this many seconds into equal parts."""
    segment_list: Path | None = None
    """A .json list or .csv of start and end (--segment-by list), in seconds or HH:MM:SS."""
    shot_threshold: float = 27.0
    """How different two frames are at a cut, 0 to 255 (--segment-by shots)."""
    batch_size: int = 4
    """Frames of one caption (--segment-by frames)."""

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        if self.max_segment is not None and self.max_segment < 2 * self.min_segment:
            raise UsageError(
                f"--max-segment {self.max_segment:g} and --min-segment {self.min_segment:g} "
                "cannot both hold.",
                hint="The one must be at least twice the other.",
            )
        if self.segment_by == "frames" and (self.min_segment or self.max_segment is not None):
            raise UsageError(
                "--min-segment and --max-segment bound seconds, and --batch-size counts frames.",
                hint="Add --segment-by seconds, shots or list.",
            )
        if (self.segment_by == "list") != (self.segment_list is not None):
            raise UsageError(
                "--segment-by list and --segment-list go together.", hint="Give both or none."
            )


@dataclass(frozen=True)
class _Range:
    start: float
    end: float
    opens_with: str = "window"


def cut(
    timeline: Timeline,
    options: SegmentOptions,
    sampling: FrameSampling,
    *,
    find_shots: Callable[..., Sequence[Shot]],
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Segments with the frames that each will show, and what the user should know.

    Args:
        sampling: of each segment; its ``start`` and ``end`` bound all of them.
        find_shots: of this video, with the limits of :func:`kinema.video.find_shots`; called where
            shots are asked for.

    Raises:
        EmptyRange: no frame lies in the asked range.
        UsageError: the list cannot be used.
    """
    if options.segment_by == "frames":
        return _every_frames(timeline, options, sampling), ()
    ranges, notes = _ranges(timeline, options, sampling, find_shots)
    ranges = joined(ranges, options.min_segment)
    ranges = [part for one in ranges for part in split(one, options.max_segment)]
    found, empty = _with_frames(timeline, ranges, sampling)
    return found, (*notes, *empty)


def _every_frames(
    timeline: Timeline, options: SegmentOptions, sampling: FrameSampling
) -> tuple[Segment, ...]:
    """Groups of ``batch_size`` sampled frames; each ends where the next begins."""
    indices = select(timeline, sampling).indices
    size = options.batch_size
    groups = [indices[i : i + size] for i in range(0, len(indices), size)]
    begins = [float(timeline.seconds[group[0]]) for group in groups]
    ends = [*begins[1:], _end(timeline, sampling)]
    return tuple(
        _segment(i, _Range(begin, max(begin, end)), timeline, group)
        for i, (begin, end, group) in enumerate(zip(begins, ends, groups, strict=True))
    )


def _ranges(
    timeline: Timeline,
    options: SegmentOptions,
    sampling: FrameSampling,
    find_shots: Callable[..., Sequence[Shot]],
) -> tuple[list[_Range], list[str]]:
    begin, end = sampling.start_seconds, _end(timeline, sampling)
    if options.segment_by == "seconds":
        count = max(1, math.ceil((end - begin) / options.window - 1e-9))
        borders = [begin + i * options.window for i in range(count)] + [end]
        return [_Range(a, b) for a, b in pairwise(borders)], []
    if options.segment_by == "list":
        assert options.segment_list is not None
        return _listed(read_ranges(options.segment_list), begin, end)
    shots = find_shots(threshold=options.shot_threshold, min_seconds=options.min_segment or 0.6)
    clipped = (
        _Range(max(begin, s.start_seconds), min(end, s.end_seconds), s.opens_with) for s in shots
    )
    return [r for r in clipped if r.start < r.end] or [_Range(begin, end, "start")], []


def read_ranges(path: Path) -> list[tuple[float, float]]:
    """Start and end of each row of a .json list (pairs or objects) or a .csv.

    Raises:
        UsageError: the file cannot be read, or a row has no start before its end.
    """
    try:
        rows = read_json(path) if path.suffix == ".json" else _csv_rows(path)
        return [_pair(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as problem:
        raise UsageError(
            f"{path} is no list of segments: {problem}.",
            hint='Write [[0, 4.5], ["0:04.5", "0:10"]], or lines of start,end.',
        ) from problem


def _csv_rows(path: Path) -> list[list[str]]:
    rows = [[cell.strip() for cell in row[:2]] for row in read_cells(path)]
    return rows[1:] if rows and rows[0][0].strip().startswith("start") else rows


def _pair(row: Any) -> tuple[float, float]:
    start, end = (row["start"], row["end"]) if isinstance(row, dict) else row[:2]
    begin, stop = parse_seconds(start), parse_seconds(end)
    if begin >= stop:
        raise ValueError(f"{start} is not before {end}")
    return begin, stop


def _listed(
    given: Iterable[tuple[float, float]], begin: float, end: float
) -> tuple[list[_Range], list[str]]:
    """The given ranges inside the video, and a sentence for what they leave out or miss."""
    ranges, notes, reached = [], [], begin
    for start, stop in sorted(given):
        if start >= end or stop <= begin:
            notes.append(f"The listed segment {start:g}–{stop:g} s lies outside the video.")
            continue
        if start > reached + 1e-6:
            notes.append(f"{reached:g}–{start:g} s is in no listed segment.")
        ranges.append(_Range(max(begin, start), min(end, stop), "list"))
        reached = max(reached, ranges[-1].end)
    if end > reached + 1e-6:
        notes.append(f"{reached:g}–{end:g} s is in no listed segment.")
    if not ranges:
        raise EmptyRange("No listed segment lies in the video.", hint="Check --segment-list.")
    return ranges, notes


def joined(ranges: Sequence[_Range], min_seconds: float) -> list[_Range]:
    """Ranges of at least ``min_seconds``: a short one joins the one before, the first the next."""
    kept: list[_Range] = []
    for one in ranges:
        touches = bool(kept) and abs(kept[-1].end - one.start) < 1e-6
        short = min(one.end - one.start, kept[-1].end - kept[-1].start if kept else 0.0)
        if touches and short < min_seconds:
            kept[-1] = replace(kept[-1], end=one.end)
        else:
            kept.append(one)
    return kept


def split(one: _Range, max_seconds: float | None) -> list[_Range]:
    """A range in equal parts of at most ``max_seconds``."""
    if max_seconds is None or one.end - one.start <= max_seconds:
        return [one]
    count = math.ceil((one.end - one.start) / max_seconds - 1e-9)
    borders = np.linspace(one.start, one.end, count + 1).tolist()
    parts = [_Range(a, b, "split") for a, b in pairwise(borders)]
    return [replace(parts[0], opens_with=one.opens_with), *parts[1:]]


def _with_frames(
    timeline: Timeline, ranges: Sequence[_Range], sampling: FrameSampling
) -> tuple[tuple[Segment, ...], list[str]]:
    """Segments that begin with no frame of their own show the one on screen then."""
    found: list[Segment] = []
    for one in ranges:
        inside = replace(sampling, start=one.start, end=one.end)
        indices = select(timeline, inside).indices
        found.append(_segment(len(found), one, timeline, indices))
    held = sum(s.frame_seconds[0] < s.start_seconds - 1e-3 for s in found)
    said = f"{held} segments begin with no frame of their own; they show the one before."
    return tuple(found), [said] if held else []


def _segment(index: int, one: _Range, timeline: Timeline, indices: Any) -> Segment:
    return Segment(
        index=index,
        start_seconds=one.start,
        end_seconds=one.end,
        frame_indices=tuple(indices.tolist()),
        frame_seconds=tuple(timeline.seconds[indices].tolist()),
        opens_with=one.opens_with,
    )


def _end(timeline: Timeline, sampling: FrameSampling) -> float:
    asked = sampling.end_seconds
    end = timeline.duration_seconds if asked is None else min(asked, timeline.duration_seconds)
    if sampling.start_seconds >= max(end, 1e-9):
        raise EmptyRange(
            f"--start {sampling.start_seconds:g} lies beyond the end: the video lasts "
            f"{timeline.duration_seconds:.2f} s.",
            hint="Choose an earlier start.",
        )
    return float(end)
