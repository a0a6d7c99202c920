"""Segments as an OpenTimelineIO timeline, captions and chapters as markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import opentimelineio as otio

from kinema.captioning.exports.timecode import FrameClock
from kinema.captioning.records import VideoRecord
from kinema.files import write_atomically


def write_otio(record: VideoRecord, path: Path) -> None:
    """One clip a segment, at whole frames; what lies between two segments is a gap.

    A clip's caption and flags stand in its metadata, chapters are markers. Times in the media
    begin at the video's own timecode where its file has one.
    """
    clock = FrameClock.of(record)
    timeline = otio.schema.Timeline(name=record.title or Path(record.source).name)
    track = otio.schema.Track(name="captions", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    media = otio.schema.ExternalReference(
        target_url=record.source,
        available_range=_range(clock, 0.0, record.duration_seconds, first=clock.first),
    )
    reached = 0.0
    for caption in record.captions:
        if clock.frame(caption.start_seconds) > clock.frame(reached):
            gap = _range(clock, reached, caption.start_seconds)
            track.append(otio.schema.Gap(duration=gap.duration))
        reached = max(reached, caption.end_seconds)
        about = {"caption": caption.text, "flags": list(caption.flags), "error": caption.error}
        clip = otio.schema.Clip(
            name=f"segment {caption.index + 1}",
            media_reference=media.deepcopy(),
            source_range=_range(
                clock, caption.start_seconds, caption.end_seconds, first=clock.first
            ),
        )
        clip.metadata["kinema"] = about
        track.append(clip)
    for chapter in record.chapters:
        span = _range(clock, chapter.start_seconds, chapter.end_seconds)
        timeline.tracks.markers.append(otio.schema.Marker(name=chapter.title, marked_range=span))
    write_atomically(path, otio.adapters.write_to_string(timeline, "otio_json") + "\n")


def _range(clock: FrameClock, start: float, end: float, *, first: int = 0) -> Any:
    """From one presentation time to another, in whole frames; the video begins at ``first``."""
    begin, stop = (
        otio.opentime.RationalTime(first + clock.frame(seconds), float(clock.rate))
        for seconds in (start, end)
    )
    return otio.opentime.TimeRange.range_from_start_end_time(begin, stop)
