"""What a decoder is, and the table of those we have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.lazy import Row, Table
from kinema.video.index import VideoIndex
from kinema.video.media import Media

DecoderName = Literal["pyav"]

Size = int | tuple[int, int]
"""Length of the shorter side in pixels (never enlarged), or exactly (height, width)."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures by frame index; a frame that could not be decoded is missing from the mapping."""

    pictures: Mapping[int, NDArray[np.uint8]]
    """frame index to uint8[H, W, 3], upright RGB with square pixels."""
    warnings: tuple[str, ...] = ()


class Decodes(Protocol):
    """Turn frame indices into upright RGB pictures."""

    def __call__(
        self, media: Media, index: VideoIndex, wanted: NDArray[np.int64], *, size: Size | None
    ) -> Decoded:
        """Decode the frames ``wanted`` (increasing); see :class:`Decoded`."""
        ...


DECODERS = Table(
    "decoder",
    {"pyav": Row("kinema.video.pyav:decode", summary="FFmpeg through PyAV, in this process")},
)
