"""Small pictures of the frames that the model saw, for pages that people read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from kinema.captioning.exports import Load
from kinema.captioning.records import Chapter, VideoRecord
from kinema.errors import MediaError
from kinema.types import Frames, FrameSampling
from kinema.video import contact_sheet
from kinema.video.data_uri import jpeg_uri

WIDTH = 240


def middles(record: VideoRecord, load: Load | None) -> Iterator[Image.Image | None]:
    """The middle frame of each caption; None where it cannot be read again, or nothing may be."""
    for caption in record.captions:
        seconds = caption.frame_seconds
        frames = _frames(load, record, seconds[len(seconds) // 2 :][:1])
        yield None if frames is None else Image.fromarray(frames.pixels[0])


def middle_addresses(record: VideoRecord, load: Load | None) -> dict[int, str | None]:
    """The middle frame of each caption inside an address, by the caption's index."""
    pairs = zip(record.captions, middles(record, load), strict=True)
    return {one.index: None if frame is None else jpeg_uri(frame) for one, frame in pairs}


def sheet(
    record: VideoRecord, chapter: Chapter, load: Load | None, *, most: int
) -> Image.Image | None:
    """A contact sheet of at most ``most`` frames of a chapter, evenly spread."""
    seen = (c.frame_seconds for c in record.captions if c.index in chapter.captions)
    seconds = [s for part in seen for s in part]
    count = min(most, len(seconds))
    chosen = [seconds[(2 * i + 1) * len(seconds) // (2 * count)] for i in range(count)]
    frames = _frames(load, record, chosen)
    return None if frames is None else contact_sheet(frames, columns=6, width=140)


def _frames(load: Load | None, record: VideoRecord, seconds: Sequence[float]) -> Frames | None:
    if load is None or not seconds:
        return None
    sampling = FrameSampling(at=tuple(seconds), track=(record.info or {}).get("track"))
    try:
        return load(record.source, sampling=sampling, size=WIDTH)
    except MediaError:
        return None
