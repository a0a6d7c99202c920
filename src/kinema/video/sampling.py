"""Which frames a :class:`~kinema.types.FrameSampling` takes from a :class:`Timeline`.

Pure functions on times and counts: nothing here opens a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinema.errors import EmptyRange
from kinema.types import Formula, FrameSampling
from kinema.video.timeline import Timeline

Indices = NDArray[np.int64]

_MOST_TICKS = 5_000_000
"""A rate that asks for more moments than this takes every frame."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The frames to take and what to tell the user about the choice."""

    indices: Indices
    """int64[K], increasing, no repeats, K >= 1."""
    warnings: tuple[str, ...] = ()


def select(timeline: Timeline, sampling: FrameSampling) -> Selection:
    """Apply one sampling to one clock.

    Raises:
        EmptyRange: no frame lies in the asked range.
    """
    end = sampling.end_seconds
    warnings = []
    if end is not None and end > timeline.duration_seconds + 1e-3:
        warnings.append(
            f"--end {end:g} lies beyond the end; "
            f"the video stops at {timeline.duration_seconds:.2f} s."
        )
    inside = timeline.inside(sampling.start_seconds, math.inf if end is None else end)
    chosen = _choose(timeline, inside, sampling)
    return replace(chosen, warnings=(*warnings, *chosen.warnings))


def _choose(timeline: Timeline, inside: Indices, sampling: FrameSampling) -> Selection:
    if sampling.fps is not None:
        return _by_rate(timeline, inside, sampling)
    if sampling.at is not None:
        return _by_times(timeline, inside, sampling.at_seconds)
    if sampling.keyframes:
        return _by_keyframes(timeline, inside, sampling)
    if sampling.single is not None:
        place = {"first": 0, "middle": len(inside) // 2, "last": -1}[sampling.single]
        return Selection(inside[[place]])
    if sampling.num_frames is not None:
        return _by_count(timeline, inside, sampling.num_frames, sampling)
    return Selection(inside)


def _by_count(
    timeline: Timeline, inside: Indices, count: int, sampling: FrameSampling
) -> Selection:
    where = "the range" if sampling.start is not None or sampling.end is not None else "the video"
    if count >= len(inside):
        short = count > len(inside)
        said = f"Asked for {count} frames, {where} has {len(inside)}."
        return Selection(inside, (said,) if short else ())
    if sampling.formula != "slices":
        return Selection(inside[positions(len(inside), count, sampling.formula)])
    begin, end = _bounds(timeline, sampling)
    middles = begin + (np.arange(count) + 0.5) * (end - begin) / count
    shown = timeline.shown_at(middles, tolerance_seconds=1e-6)
    chosen = np.unique(np.clip(shown, inside[0], inside[-1]))
    if len(chosen) < count:
        said = f"Asked for {count} frames; {where} shows {len(chosen)} different ones then."
        return Selection(chosen, (said,))
    return Selection(chosen)


def _bounds(timeline: Timeline, sampling: FrameSampling) -> tuple[float, float]:
    asked = sampling.end_seconds
    end = timeline.duration_seconds if asked is None else min(asked, timeline.duration_seconds)
    return sampling.start_seconds, end


def _by_rate(timeline: Timeline, inside: Indices, sampling: FrameSampling) -> Selection:
    assert sampling.fps is not None
    begin, end = _bounds(timeline, sampling)
    num_ticks = max(1.0, (end - begin) * sampling.fps - 1e-6)
    if num_ticks > _MOST_TICKS:
        chosen = inside
    else:
        ticks = begin + np.arange(math.ceil(num_ticks)) / sampling.fps
        chosen = np.unique(np.clip(timeline.shown_at(ticks), inside[0], inside[-1]))
    if sampling.min_frames is not None and len(chosen) < sampling.min_frames:
        return _by_count(timeline, inside, sampling.min_frames, sampling)
    warnings: tuple[str, ...] = ()
    if len(chosen) == len(inside) < math.ceil(num_ticks):
        warnings = (
            f"Asked for {sampling.fps:g} frames a second, the video has {timeline.fps or 0:.2f}.",
        )
    return _at_most(sampling.max_frames, Selection(chosen, warnings))


def _by_times(timeline: Timeline, inside: Indices, at: tuple[float, ...]) -> Selection:
    times = np.asarray(at, dtype=np.float64)
    warnings = []
    late = times[times > timeline.duration_seconds + 1e-3]
    if len(late):
        warnings.append(
            f"{late[0]:g} s lies beyond the end; the last frame was taken "
            f"({timeline.duration_seconds:.2f} s)."
        )
    chosen = np.unique(np.clip(timeline.shown_at(times), inside[0], inside[-1]))
    if len(chosen) < len(times):
        warnings.append(f"{len(times)} times were asked and {len(chosen)} frames are shown then.")
    return Selection(chosen, tuple(warnings))


def _by_keyframes(timeline: Timeline, inside: Indices, sampling: FrameSampling) -> Selection:
    chosen = inside[timeline.keyframes[inside]]
    if not len(chosen):
        raise EmptyRange(
            "No key frame lies in the asked range.", hint="Widen the range or use --num-frames."
        )
    return _at_most(sampling.max_frames, Selection(chosen))


def _at_most(limit: int | None, selection: Selection) -> Selection:
    count = len(selection.indices)
    if limit is None or count <= limit:
        return selection
    middles = (2 * np.arange(limit) + 1) * count // (2 * limit)
    said = f"{count} frames match; {limit} of them were taken, evenly spread."
    return Selection(selection.indices[middles], (*selection.warnings, said))


def _segments(total: int, count: int) -> Indices:
    # Borders are rounded half to even, as numpy does, before the middle is taken.
    borders = np.round((total - 1) / count * np.arange(count + 1)).astype(np.int64)
    return (borders[:-1] + borders[1:]) // 2


_FORMULAS: dict[Formula, Callable[[int, int], Indices]] = {
    # vLLM, NeVA, LWM
    "linspace": lambda total, count: np.linspace(0, total - 1, count).astype(np.int64),
    # transformers video processors
    "arange": lambda total, count: np.arange(count) * total // count,
    # VLMEvalKit
    "interior": lambda total, count: (np.arange(1, count + 1) * total / (count + 1)).astype(int),
    # Video-ChatGPT
    "segments": _segments,
    # the same as equal time slices where the rate is constant
    "slices": lambda total, count: (2 * np.arange(count) + 1) * total // (2 * count),
}


def positions(total: int, count: int, formula: Formula) -> Indices:
    """Place ``count`` indices among ``total`` frames; as many as there are when fewer.

    Returns:
        int64[min(count, total)], increasing, no repeats.
    """
    if count >= total:
        return np.arange(total, dtype=np.int64)
    return _FORMULAS[formula](total, count)


def snap_to_keyframes(timeline: Timeline, selection: Selection) -> Selection:
    """The key frame nearest in time to each chosen frame: much quicker, and only approximate."""
    keys = np.flatnonzero(timeline.keyframes)
    if not len(keys):
        return selection
    wanted = timeline.seconds[selection.indices]
    after = np.clip(np.searchsorted(timeline.seconds[keys], wanted), 1, len(keys) - 1)
    if len(keys) > 1:
        middles = (timeline.seconds[keys[after - 1]] + timeline.seconds[keys[after]]) / 2
        nearest = keys[np.where(wanted < middles, after - 1, after)]
    else:
        nearest = np.repeat(keys, len(wanted))
    moved = float(np.abs(timeline.seconds[nearest] - wanted).max())
    snapped = np.unique(nearest).astype(np.int64)
    said = (
        f"Approximate: {len(snapped)} key frames stand in for {len(wanted)} frames, "
        f"up to {moved:.2f} s away."
    )
    return Selection(snapped, (*selection.warnings, said))
