"""SubRip and WebVTT: captions as subtitles, chapters as a WebVTT chapter track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from kinema.captioning.records import VideoRecord
from kinema.captioning.text import clock
from kinema.files import write_atomically

Cue = tuple[float, float, str]
"""Start and end in seconds, text."""


def write_srt(record: VideoRecord, path: Path) -> None:
    """SubRip: numbered cues, times with a comma."""
    blocks = (
        f"{number}\n{clock(start, mark=',')} --> {clock(end, mark=',')}\n{text}\n"
        for number, (start, end, text) in enumerate(caption_cues(record), start=1)
    )
    write_atomically(path, "\n".join(blocks))


def write_vtt(record: VideoRecord, path: Path) -> None:
    """WebVTT (W3C): captions."""
    write_atomically(path, vtt(caption_cues(record)))


def write_chapters(record: VideoRecord, path: Path) -> None:
    """WebVTT (W3C) for a track of kind ``chapters``."""
    write_atomically(path, vtt(chapter_cues(record)))


def caption_cues(record: VideoRecord) -> Iterator[Cue]:
    """A cue for each caption that has words."""
    for caption in record.captions:
        if caption.text:
            yield caption.start_seconds, caption.end_seconds, one_line(caption.text)


def chapter_cues(record: VideoRecord) -> Iterator[Cue]:
    """A cue for each chapter."""
    for chapter in record.chapters:
        title = chapter.title or f"Chapter {chapter.index + 1}"
        yield chapter.start_seconds, chapter.end_seconds, one_line(title)


def vtt(cues: Iterable[Cue]) -> str:
    """A WebVTT file; text is escaped, so none of it reads as markup or as a time line."""
    blocks = [
        f"{clock(start)} --> {clock(end)}\n{escape(text, quote=False)}\n"
        for start, end, text in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def one_line(text: str) -> str:
    """Text without line ends: an empty line would end a cue."""
    return " ".join(text.split())
