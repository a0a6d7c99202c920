"""Leaving out frames that look like the one before, with a floor: first, middle and last stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinema.types import Frames

_SIDE = 32


def distinct(frames: Frames, threshold: float | None) -> NDArray[np.int64]:
    """int64[K], positions of frames that differ from the last one kept.

    Args:
        threshold: mean difference of brightness, 0 to 255, from which a frame counts as another;
            None keeps all.
    """
    count = len(frames)
    if threshold is None or count <= 2:
        return np.arange(count)
    floor = {0, count // 2, count - 1}
    small = np.stack([_thumbnail(pixels) for pixels in frames.pixels])
    kept = [0]
    for i in range(1, count):
        if i in floor or float(np.abs(small[i] - small[kept[-1]]).mean()) >= threshold:
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def without_similar(frames: Frames, threshold: float | None) -> Frames:
    """The frames that :func:`distinct` keeps, with the times of those that were left out."""
    kept = distinct(frames, threshold)
    if len(kept) == len(frames):
        return frames
    left_out = sorted({*frames.seconds.tolist()} - {*frames.seconds[kept].tolist()})
    return replace(frames[kept], left_out_seconds=tuple(left_out))


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[32, 32]: brightness averaged over a grid of uint8[H, W, 3]."""
    grey = pixels.astype(np.float32).mean(axis=-1)
    rows = np.array_split(grey, min(_SIDE, grey.shape[0]), axis=0)
    columns = (np.array_split(row.mean(axis=0), min(_SIDE, grey.shape[1])) for row in rows)
    return np.array([[cell.mean() for cell in row] for row in columns], dtype=np.float32)
