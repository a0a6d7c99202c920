"""SubRip and WebVTT: captions as subtitles, chapters as a WebVTT chapter track."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from kinema.captioning.quality import is_usable
from kinema.captioning.records import VideoRecord
from kinema.captioning.text import clock
from kinema.files import write_atomically

_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_TAG = re.compile(r"<(/?[A-Za-z][^<>]*)>")
_OVERRIDE = re.compile(r"\{(\\[^{}]*)\}")

Cue = tuple[float, float, str]
"""Start and end in seconds, text."""


def write_srt(record: VideoRecord, path: Path) -> None:
    """SubRip: numbered cues, times with a comma; what players would take for styles is text."""
    blocks = (
        f"{number}\n{clock(start, mark=',')} --> {clock(end, mark=',')}\n{_unstyled(text)}\n"
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
    """A cue for each caption that can be used without the flags beside it."""
    for caption in record.captions:
        if is_usable(caption):
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
    """Text without line ends, control characters and changes of its direction.

    An empty line would end a cue; what a terminal or an editor obeys is not for a model to write.
    """
    joined = " ".join(text.split())
    return "".join(
        c for c in joined if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI
    )


def _unstyled(text: str) -> str:
    """``<b>`` and ``{\\an8}`` with brackets that no player reads; SubRip has no way to escape."""
    text = _TAG.sub(r"‹\1›", text).replace("-->", "→")
    return _OVERRIDE.sub(r"(\1)", text)
