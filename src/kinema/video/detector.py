"""What finds the shots of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.video.decoder import Size

Picture = tuple[int, NDArray[np.uint8]]
"""Frame index and uint8[H, W, 3]."""


@dataclass(frozen=True)
class Detector:
    """One library's way of finding where shots open."""

    size: Size
    """What frames are scaled to before it sees them."""
    threshold: float
    """Above which there is a cut, unless the caller says another."""
    find_openings: Callable[[Iterator[Picture], float], dict[int, str]]
    """Frame index to ``cut`` or ``fade``, of frames in presentation order and a threshold."""
