"""What a decoder is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DecoderName = Literal["pyav", "torchcodec", "cuda"]

Size = int | tuple[int, int]
"""Length of the shorter side in pixels (never enlarged), or exactly (height, width)."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures in the order they were asked for, and which of them could be decoded."""

    pixels: NDArray[np.uint8]
    """uint8[K, H, W, 3], upright RGB with square pixels."""
    found: NDArray[np.bool_]
    """bool[K]; where False the pixels mean nothing."""
    warnings: tuple[str, ...] = ()
    damaged_packets: int = 0
    """Packets that the decoder refused."""
    corrupt_frames: int = 0
    """Of those found, the ones that the decoder marked."""
