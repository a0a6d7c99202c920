"""Decoding with torchcodec, the second opinion: the same pictures by another library.

Identical at the stored size; with ``size=`` the scaling happens after RGB and not before, which
moves values by a few steps. What torchcodec does not do (interlaced, HDR or mirrored pictures, wide
pixels) is read by PyAV, and said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import DecodeFailed, MissingPackage
from kinema.video import pyav
from kinema.video.container import open_container, video_stream
from kinema.video.decoder import Decoded, Size
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.picture import HDR_TRANSFERS, fit, orientation_of
from kinema.video.playback import first_frame


def _without_ffmpeg() -> MissingPackage:
    return MissingPackage(
        "torchcodec is installed and finds no FFmpeg libraries.",
        hint="Install FFmpeg with your system's packages (apt install ffmpeg), or use "
        "decoder='pyav'.",
    )


try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError, OSError):
    raise _without_ffmpeg() from None

_CLOCK_TOLERANCE_SECONDS = 2e-3


def decode(
    media: Media, index: VideoIndex, wanted: NDArray[np.int64], *, size: Size | None = None
) -> Decoded:
    """Decode the wanted frames; see :data:`kinema.video.reading.DECODERS`."""
    beyond, stream_index = beyond_torchcodec(media, index)
    pixels = None
    if not beyond:
        try:
            pixels = read_frames(media, index, wanted, stream_index)
        except DecodeFailed:
            beyond = "this file as its packets tell it"
    if pixels is None:
        decoded = pyav.decode(media, index, wanted, size=size)
        said = f"torchcodec does not read {beyond}; PyAV read it."
        return replace(decoded, warnings=(said, *decoded.warnings))
    return Decoded(scaled(pixels, size), np.ones(len(wanted), dtype=np.bool_))


def read_frames(
    media: Media,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    stream_index: int,
    *,
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """uint8[K, H, W, 3] at the stored size, on the host.

    Raises:
        MissingPackage: torchcodec finds no FFmpeg.
        DecodeFailed: it cannot read the file, or has another clock.
    """
    try:
        # A handle and never a name: FFmpeg takes some names for protocols.
        with media.open() as file:
            decoder = VideoDecoder(
                file,
                stream_index=stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=0,
                device=device,
            )
            batch = decoder.get_frames_at(wanted.tolist())
    except (RuntimeError, ValueError, IndexError) as problem:
        if "libtorchcodec" in str(problem):  # since 0.17 it is loaded with the first video
            raise _without_ffmpeg() from None
        raise DecodeFailed(
            f"{media.name} could not be decoded by torchcodec.", hint="Use decoder='pyav'."
        ) from None
    begin = decoder.metadata.begin_stream_seconds_from_content or 0.0
    clock = batch.pts_seconds.cpu().numpy() - begin
    if np.abs(clock - index.timeline.seconds[wanted]).max() > _CLOCK_TOLERANCE_SECONDS:
        raise DecodeFailed(
            f"torchcodec and the packets of {media.name} disagree about time.",
            hint="Use decoder='pyav'.",
        )
    pixels: NDArray[np.uint8] = batch.data.cpu().numpy()
    return pixels


def beyond_torchcodec(media: Media, index: VideoIndex) -> tuple[str, int]:
    """What about this file torchcodec would get wrong, empty when nothing; and the stream's index.

    torchcodec's own choice of a stream is FFmpeg's, which may be a picture beside the film.
    """
    with open_container(media) as container:
        stream = video_stream(container, media)
        frame = first_frame(container, stream)
        facts = {
            "interlaced video": frame.interlaced_frame,
            "HDR video": int(frame.color_trc) in HDR_TRANSFERS,
            "mirrored video": orientation_of(frame).is_mirrored,
            "pixels that are not square": (stream.sample_aspect_ratio or 1) != 1,
            "video that is decoded from front to back": index.front_to_back,
        }
        return " and ".join(name for name, present in facts.items() if present), stream.index


def scaled(pixels: NDArray[np.uint8], size: Size | None) -> NDArray[np.uint8]:
    """uint8[K, H, W, 3] at the asked size."""
    height, width = fit(pixels.shape[1:3], size)
    if (height, width) == pixels.shape[1:3]:
        return pixels
    bicubic = Image.Resampling.BICUBIC
    return np.stack(
        [np.asarray(Image.fromarray(p).resize((width, height), bicubic)) for p in pixels]
    )
