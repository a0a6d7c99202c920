"""Segments as a CMX 3600 edit decision list, for editing programs."""

from __future__ import annotations

from pathlib import Path

from kinema.captioning.exports.subtitles import one_line
from kinema.captioning.exports.timecode import FrameClock
from kinema.captioning.quality import UNUSABLE, is_usable, own_flags
from kinema.captioning.records import Caption, VideoRecord
from kinema.files import write_atomically


def write_edl(record: VideoRecord, path: Path) -> None:
    """One cut a segment, the caption as its comment.

    Source times are the video's own timecode where its file has one, drop-frame where that is;
    record times count from 00:00:00:00.
    """
    clock = FrameClock.of(record)
    mode = "DROP FRAME" if clock.drops else "NON-DROP FRAME"
    lines = [f"TITLE: {one_line(record.title)[:70]}", f"FCM: {mode}", ""]
    for number, caption in enumerate(record.captions, start=1):
        span = [clock.frame(s) for s in (caption.start_seconds, caption.end_seconds)]
        source = " ".join(clock.timecode(clock.first + frame) for frame in span)
        recorded = " ".join(clock.timecode(frame) for frame in span)
        lines += [
            f"{number:03d}  AX       V     C        {source} {recorded}",
            f"* FROM CLIP NAME: {Path(record.source).name}",
            f"* COMMENT: {_comment(caption)}",
        ]
    write_atomically(path, "\n".join(lines) + "\n")


def _comment(caption: Caption) -> str:
    """The caption, or why there is none that can be used."""
    if is_usable(caption):
        return one_line(caption.text)
    flags = UNUSABLE.intersection(own_flags(caption)) | UNUSABLE.intersection(caption.flags)
    return one_line(caption.error or f"no caption ({', '.join(sorted(flags))})")
