"""Decoding on a GPU (NVDEC) by torchcodec, where that gives the pictures of the CPU.

A GPU's decoder has its own colour conversion, and some have cropped pictures of some sizes wrongly
without a word. So one of the wanted frames of each file is decoded by both, until a file of its
codec, pixel format and size has shown that they agree. Where they do not, or the GPU cannot read
the file, PyAV reads it, and a warning says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import MediaError
from kinema.video import pyav, torchcodec
from kinema.video.container import open_container, video_stream
from kinema.video.decoder import Decoded, Size
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.picture import orientation_of
from kinema.video.tracks import codec_of

MEAN_TOLERANCE = 2.0
"""Levels of 255 that a picture may differ from the CPU's, on average over all its values."""
BORDER_TOLERANCE = 6.0
"""The same over each strip along its border, where a wrong crop shows first."""
_BORDER_PIXELS = 16
_TELLING_DEVIATION = 8.0
"""A picture that is flatter than this shows no wrong crop, so it speaks for its own file alone."""

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """What decides whether a GPU's decoder gives the right pictures."""

    codec: str
    pixel_format: str
    coded_size: tuple[int, int]
    """Height and width before the picture is cropped."""
    size: tuple[int, int]
    colour: tuple[int, int]
    """Matrix and range (ITU-T H.273)."""


class _Doubt(Exception):
    """Why the GPU is not used, as the end of a sentence."""


agreeing: set[Kind] = set()
"""Kinds that the GPU of this process has decoded as the CPU did."""


def decode(
    media: Media, index: VideoIndex, wanted: NDArray[np.int64], *, size: Size | None = None
) -> Decoded:
    """Decode the wanted frames; see :data:`kinema.video.reading.DECODERS`."""
    try:
        pixels = _decode_checked(media, index, wanted)
    except _Doubt as doubt:
        decoded = pyav.decode(media, index, wanted, size=size)
        said = f"The GPU was not used ({doubt}); PyAV read the file."
        return replace(decoded, warnings=(said, *decoded.warnings))
    return Decoded(torchcodec.scaled(pixels, size), np.ones(len(wanted), dtype=np.bool_))


def why_no_gpu() -> str:
    """Why there is none, as the end of a sentence; empty where there is one."""
    return "" if torch.cuda.is_available() else "there is no CUDA device"


def read_on_gpu(
    media: Media, index: VideoIndex, wanted: NDArray[np.int64], stream_index: int
) -> Pictures:
    """uint8[K, H, W, 3] at the stored size, from the GPU's decoder.

    Raises:
        DecodeFailed, RuntimeError: it cannot read the file.
    """
    return torchcodec.read_frames(media, index, wanted, stream_index, device="cuda")


def _decode_checked(media: Media, index: VideoIndex, wanted: NDArray[np.int64]) -> Pictures:
    if missing := why_no_gpu():
        raise _Doubt(missing)
    beyond, stream_index = torchcodec.beyond_torchcodec(media, index)
    if beyond:
        raise _Doubt(f"torchcodec does not read {beyond}")
    kind = _kind_of(media)

    def read(frames: NDArray[np.int64]) -> Pictures:
        try:
            return read_on_gpu(media, index, frames, stream_index)
        except (MediaError, RuntimeError, ValueError) as problem:
            raise _Doubt(f"it could not read the file: {type(problem).__name__}") from None

    if kind not in agreeing:
        sample = _cheapest(index, wanted)
        truth = pyav.decode(media, index, sample).pixels
        _compare(read(sample), truth)
        if float(truth.std()) >= _TELLING_DEVIATION:
            agreeing.add(kind)
    return read(wanted)


def _kind_of(media: Media) -> Kind:
    with open_container(media) as container:
        stream = video_stream(container, media)
        context = stream.codec_context
        if orientation_of(next(container.decode(stream))).rotation_degrees:
            raise _Doubt("turned video is not compared")
        return Kind(
            codec=codec_of(stream),
            pixel_format=str(context.pix_fmt),
            coded_size=(context.coded_height, context.coded_width),
            size=(context.height, context.width),
            colour=(int(context.colorspace), int(context.color_range)),
        )


def _cheapest(index: VideoIndex, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[1], the wanted frame that is decoded soonest after a key frame."""
    packets = index.packet[wanted] - index.entries(wanted)
    return wanted[[int(np.argmin(packets))]]


def _compare(found: Pictures, truth: Pictures) -> None:
    if found.shape != truth.shape:
        raise _Doubt(
            f"its pictures are {found.shape[2]}×{found.shape[1]} and the CPU's "
            f"{truth.shape[2]}×{truth.shape[1]}"
        )
    difference = np.abs(found.astype(np.int16) - truth)
    near, far = slice(None, _BORDER_PIXELS), slice(-_BORDER_PIXELS, None)
    rows = (difference[:, near], difference[:, far])
    columns = (difference[:, :, near], difference[:, :, far])
    border = max(float(strip.mean()) for strip in (*rows, *columns))
    for what, levels, most in (
        ("", float(difference.mean()), MEAN_TOLERANCE),
        (" along the border", border, BORDER_TOLERANCE),
    ):
        if levels > most:
            raise _Doubt(
                f"its pictures differ from the CPU's by {levels:.1f} of 255 levels{what}, "
                f"{most:g} are allowed"
            )
