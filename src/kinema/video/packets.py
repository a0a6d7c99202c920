"""The packets of a video stream as arrays: what any way of indexing a file results in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MISSING = int(np.iinfo(np.int64).min)
"""Stands for a time that the container does not give."""


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of one stream in decoding order, as arrays of one length."""

    pts: NDArray[np.int64]
    """int64[P], presentation times in ticks."""
    dts: NDArray[np.int64]
    """int64[P], decoding times in ticks."""
    duration: NDArray[np.int64]
    """int64[P], in ticks, 0 where it is not known."""
    keyframe: NDArray[np.bool_]
    """bool[P], decoding can begin here."""
    discard: NDArray[np.bool_]
    """bool[P], decoded and never shown: the container's edit list cuts it off."""
    seconds_per_tick: float
    container: str
    """FFmpeg's name of the demuxer."""
    codec: str
    """FFmpeg's name of the codec."""
    config: bytes = b""
    """The decoder configuration, empty where the container holds none."""
    reordering: int | None = None
    """Most frames that are decoded before another one and shown after it, where that is known."""
    doubt: str = ""
    """What a look at the packets themselves said against one frame a packet."""

    def __len__(self) -> int:
        return len(self.pts)
