"""Which packets must be decoded for which frames, cut into pieces that do not need each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kinema.video.index import VideoIndex


@dataclass(frozen=True, eq=False)
class Run:
    """Packets to decode in one go, and the frames to keep of them."""

    entry: int
    """Packet to begin at, a key frame."""
    stop: int
    """One past the last packet that a kept frame comes from."""
    frames: Mapping[int, int] = field(repr=False)
    """Packet to frame index."""

    def __len__(self) -> int:
        return self.stop - self.entry


def plan_runs(index: VideoIndex, wanted: NDArray[np.int64]) -> list[Run]:
    """Group frames by the key frame they are decoded from, in decoding order."""
    if index.front_to_back:
        frames = {frame: frame for frame in wanted.tolist()}
        return [Run(0, max(frames) + 1, frames)]
    runs: list[Run] = []
    found = (index.packet[wanted], index.entries(wanted), wanted)
    for packet, entry, frame in sorted(zip(*(each.tolist() for each in found), strict=True)):
        if runs and entry < runs[-1].stop:
            last = runs.pop()
            runs.append(Run(last.entry, packet + 1, {**last.frames, packet: frame}))
        else:
            runs.append(Run(entry, packet + 1, {packet: frame}))
    return runs


def join_neighbours(runs: list[Run], *, most_packets: int) -> list[Run]:
    """Join runs that touch, while they stay below a length: fewer seeks, still enough to share."""
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last and last.stop == run.entry and run.stop - last.entry <= most_packets:
            joined[-1] = Run(last.entry, run.stop, {**last.frames, **run.frames})
        else:
            joined.append(run)
    return joined


def earlier(index: VideoIndex, run: Run, missing: set[int]) -> Run:
    """The run of a second attempt for frames that did not come: one key frame further back."""
    before = np.searchsorted(index.keys, run.entry)
    entry = int(index.keys[before - 1]) if before else 0
    frames = {packet: frame for packet, frame in run.frames.items() if frame in missing}
    return Run(entry, max(frames) + 1, frames)
