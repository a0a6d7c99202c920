"""What a decoder is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.video.index import VideoIndex
from kinema.video.media import Media

DecoderName = Literal["pyav", "torchcodec"]

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


class Decodes(Protocol):
    """Turn frame indices into upright RGB pictures."""

    def __call__(
        self, media: Media, index: VideoIndex, wanted: NDArray[np.int64], *, size: Size | None
    ) -> Decoded:
        """Decode the frames ``wanted`` (int64[K], increasing).

        Raises:
            MediaError: the file cannot be opened, or not one frame decoded.
        """
        ...
