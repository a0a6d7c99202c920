"""Segments as a CMX 3600 edit decision list, for editing programs."""

from __future__ import annotations

from pathlib import Path

from kinema.captioning.exports.subtitles import one_line
from kinema.captioning.records import VideoRecord
from kinema.files import write_atomically

_ANY_FPS = 25.0


def write_edl(record: VideoRecord, path: Path) -> None:
    """One cut a segment, the caption as its comment; non-drop timecode at the nominal rate."""
    fps = float((record.info or {}).get("fps") or _ANY_FPS)
    lines = [f"TITLE: {one_line(record.title)[:70]}", "FCM: NON-DROP FRAME", ""]
    for number, caption in enumerate(record.captions, start=1):
        begin, end = (timecode(s, fps) for s in (caption.start_seconds, caption.end_seconds))
        lines += [
            f"{number:03d}  AX       V     C        {begin} {end} {begin} {end}",
            f"* FROM CLIP NAME: {Path(record.source).name}",
            f"* COMMENT: {one_line(caption.text or caption.error or '')}",
        ]
    write_atomically(path, "\n".join(lines) + "\n")


def timecode(seconds: float, fps: float) -> str:
    """``HH:MM:SS:FF``: frames counted at the true rate, written at the nominal one."""
    nominal = max(1, round(fps))
    frames = round(seconds * fps)
    rest, left = divmod(frames, nominal)
    return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}:{left:02d}"
