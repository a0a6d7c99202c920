"""Small pictures of the frames that the model saw, for pages that people read."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

from PIL import Image

from kinema.captioning.records import VideoRecord
from kinema.errors import MediaError
from kinema.types import Frames, FrameSampling
from kinema.video import load_frames

WIDTH = 240


def thumbnails(record: VideoRecord) -> Iterator[str | None]:
    """A ``data:`` address of each caption's middle frame; None where it cannot be read again."""
    for caption in record.captions:
        frames = _frames(
            record.source, caption.frame_seconds[len(caption.frame_seconds) // 2 :][:1]
        )
        yield None if frames is None else data_address(Image.fromarray(frames.pixels[0]))


def seen(record: VideoRecord) -> Iterator[Frames | None]:
    """The frames of each caption; None where they cannot be read again."""
    for caption in record.captions:
        yield _frames(record.source, caption.frame_seconds)


def _frames(source: str, seconds: tuple[float, ...]) -> Frames | None:
    if not seconds:
        return None
    try:
        return load_frames(source, sampling=FrameSampling(at=seconds), size=WIDTH)
    except MediaError:
        return None


def data_address(picture: Image.Image) -> str:
    """A JPEG inside an address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
