"""Segments as an OpenTimelineIO timeline, captions and chapters as markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import opentimelineio as otio

from kinema.captioning.records import VideoRecord
from kinema.files import write_atomically

_ANY_FPS = 25.0


def write_otio(record: VideoRecord, path: Path) -> None:
    """One clip a segment; its caption and flags stand in its metadata, chapters are markers."""
    fps = float((record.info or {}).get("fps") or _ANY_FPS)
    timeline = otio.schema.Timeline(name=record.title or Path(record.source).name)
    track = otio.schema.Track(name="captions", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    media = otio.schema.ExternalReference(
        target_url=record.source, available_range=_range(0.0, record.duration_seconds, fps)
    )
    for caption in record.captions:
        span = _range(caption.start_seconds, caption.end_seconds, fps)
        about = {"caption": caption.text, "flags": list(caption.flags), "error": caption.error}
        clip = otio.schema.Clip(
            name=f"segment {caption.index + 1}", media_reference=media.deepcopy(), source_range=span
        )
        clip.metadata["kinema"] = about
        track.append(clip)
    for chapter in record.chapters:
        span = _range(chapter.start_seconds, chapter.end_seconds, fps)
        timeline.tracks.markers.append(otio.schema.Marker(name=chapter.title, marked_range=span))
    write_atomically(path, otio.adapters.write_to_string(timeline, "otio_json") + "\n")


def _range(start: float, end: float, fps: float) -> Any:
    begin = otio.opentime.RationalTime.from_seconds(start, fps)
    stop = otio.opentime.RationalTime.from_seconds(end, fps)
    return otio.opentime.TimeRange.range_from_start_end_time(begin, stop)
