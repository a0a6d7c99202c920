"""What a model is shown of a medium: its pixels and its clock, as processors want them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.families import Family
from kinema.types import Frames

_TICKS_PER_SECOND = 1000.0
"""Times reach processors as index ÷ rate; in milliseconds any frame rate comes out true."""


def shown_pixels(frames: Frames, family: Family) -> NDArray[np.uint8]:
    """uint8[T, H, W, 3] with at least the frames that the family needs, the last one repeated."""
    missing = _missing(frames, family)
    if missing == 0:
        return frames.pixels
    return np.concatenate([frames.pixels, np.repeat(frames.pixels[-1:], missing, axis=0)])


def video_metadata(frames: Frames, family: Family) -> dict[str, Any]:
    """The clock of a clip in the words of ``transformers.video_utils.VideoMetadata``.

    Processors read times as ``frames_indices / fps`` and the sampled rate as
    ``len(frames_indices) / total_num_frames * fps``. Both come out as the frames' own, for a
    range of a longer video and for variable frame rates too.
    """
    seconds = frames.seconds.tolist()
    seconds += seconds[-1:] * _missing(frames, family)
    return {
        "total_num_frames": max(1, round(len(seconds) * _spacing(frames) * _TICKS_PER_SECOND)),
        "fps": _TICKS_PER_SECOND,
        "duration": frames.duration_seconds or seconds[-1],
        "frames_indices": [round(s * _TICKS_PER_SECOND) for s in seconds],
        "height": frames.pixels.shape[1],
        "width": frames.pixels.shape[2],
    }


def _missing(frames: Frames, family: Family) -> int:
    return max(0, (family.exact_frames or family.min_frames) - len(frames))


def _spacing(frames: Frames) -> float:
    """Seconds from one frame to the next."""
    if len(frames) > 1:
        return float(frames.seconds[-1] - frames.seconds[0]) / (len(frames) - 1)
    return 1.0 / frames.source_fps if frames.source_fps else 1.0
