"""The clock of frames in the order in which a decoder gave them.

Containers give times that restart, jump, repeat or are missing. The order of the frames is then
what is known, and their times are made to follow it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.video.index import increasing
from kinema.video.packets import MISSING
from kinema.video.timeline import Timeline

_ANY_RATE = 25.0
"""Frames a second where neither frames nor container say anything; FFmpeg's own default."""
_LARGEST_GAP_SECONDS = 10.0
"""In streams whose clock may be set anew, a longer gap is such a case (FFmpeg's threshold too)."""

_MOST_LISTED = 8

Times = NDArray[np.float64]


def frame_clock(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    seconds_per_tick: float,
    *,
    frame_seconds: float,
    closes_gaps: bool,
) -> tuple[Timeline, tuple[str, ...]]:
    """Times of frames, and what to say about them.

    Args:
        pts: int64[N], times that the container gave, or ``MISSING``.
        dts: int64[N], times of the packets that the decoder was given when each frame left it.
        seconds_per_tick: of both.
        frame_seconds: how long a frame is said to be shown; 0 where nobody says so.
        closes_gaps: whether a long gap means that the clock was set anew.
    """
    times = _better(_seconds(pts, seconds_per_tick), _unrepeated(_seconds(dts, seconds_per_tick)))
    step = _usual_step(times, frame_seconds)
    times, num_odd = _without_outliers(times)
    times = _filled(times, step)
    times, restarts = _joined(times, step, closes_gaps=closes_gaps)
    said = []
    if num_odd:
        said.append(f"{num_odd} frames had times out of order; their neighbours' times were used.")
    if len(restarts):
        at = ", ".join(str(frame) for frame in restarts[:_MOST_LISTED].tolist())
        at += ", …" if len(restarts) > _MOST_LISTED else ""
        said.append(f"The clock is set anew at frame {at}; the parts follow each other.")
    seconds = increasing(times - times[0])
    last = _usual_step(seconds, frame_seconds)
    no_keys = np.zeros(len(seconds), dtype=np.bool_)
    return Timeline(seconds, no_keys, float(seconds[-1]) + last), tuple(said)


def _seconds(ticks: NDArray[np.int64], seconds_per_tick: float) -> Times:
    return np.where(ticks == MISSING, np.nan, ticks * seconds_per_tick)


def _unrepeated(times: Times) -> Times:
    """Of frames that leave a decoder together, only the first keeps the time of the packet."""
    times = times.copy()
    times[1:][times[1:] == times[:-1]] = np.nan
    return times


def _better(pts: Times, dts: Times) -> Times:
    """The times with fewer faults: AVI's presentation times are guesses where frames are reordered.

    Frames that leave the decoder at the end of the stream have no second time.
    """
    faults = [_num_faults(pts), _num_faults(dts)]
    if np.isnan(pts).all():
        return dts
    return pts if faults[0] <= faults[1] or np.isnan(dts).all() else dts


def _num_faults(times: Times) -> int:
    known = times[~np.isnan(times)]
    inner = times[: np.flatnonzero(~np.isnan(times))[-1]] if len(known) else times
    return int((np.diff(known) < 0).sum() + np.isnan(inner).sum())


def _usual_step(times: Times, frame_seconds: float) -> float:
    """Seconds from a frame to the next, where nothing else is known."""
    steps: Any = np.diff(times)
    steps = steps[~np.isnan(steps) & (steps > 0)]
    return float(np.median(steps)) if len(steps) else frame_seconds or 1 / _ANY_RATE


def _without_outliers(times: Times) -> tuple[Times, int]:
    """Single times that do not lie between their neighbours are taken out."""
    times = times.copy()
    if len(times) < 3:
        return times, 0
    before, here, after = times[:-2], times[1:-1], times[2:]
    odd = (before < after) & ((here < before) | (here > after))
    odd[1:] &= ~odd[:-1]  # the neighbour of a wrong time is right
    times[1:-1][odd] = np.nan
    return times, int(odd.sum())


def _filled(times: Times, step: float) -> Times:
    """Times for the frames without: between their neighbours, and step by step at the ends."""
    known = np.flatnonzero(~np.isnan(times))
    places = np.arange(len(times))
    if not len(known):
        return np.asarray(places * step, dtype=np.float64)
    filled = np.interp(places, known, times[known])
    before = np.maximum(np.searchsorted(known, places, side="right") - 1, 0)
    after = np.minimum(before + 1, len(known) - 1)
    # Where the clock ends or is set anew, each frame follows the one before.
    goes_on = times[known[after]] <= times[known[before]]
    stepped = times[known[before]] + (places - known[before]) * step
    return np.asarray(np.where(goes_on | (places < known[0]), stepped, filled), dtype=np.float64)


def _joined(times: Times, step: float, *, closes_gaps: bool) -> tuple[Times, NDArray[np.int64]]:
    """Parts whose clocks were set anew, one after the other; the frames at which they begin."""
    steps = np.diff(times)
    restarts = steps < 0
    if closes_gaps:
        restarts |= steps > _LARGEST_GAP_SECONDS
    steps[restarts] = step
    joined = times[0] + np.concatenate([[0.0], np.cumsum(steps)])
    return (joined if restarts.any() else times), np.flatnonzero(restarts) + 1
