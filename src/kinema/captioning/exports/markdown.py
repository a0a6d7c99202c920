"""A page for people: title, summary, chapters, and each caption beside its middle frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kinema.captioning.exports import Load
from kinema.captioning.exports.pictures import middles
from kinema.captioning.exports.subtitles import one_line
from kinema.captioning.records import Chapter, VideoRecord
from kinema.captioning.text import short_clock
from kinema.files import write_atomically
from kinema.video.data_uri import jpeg_uri


def write_markdown(record: VideoRecord, path: Path, load: Load | None) -> None:
    """One file with its pictures inside."""
    write_atomically(path, "\n".join(_lines(record, load)) + "\n")


def _lines(record: VideoRecord, load: Load | None) -> Iterator[str]:
    yield f"# {_escaped(record.title or record.source)}\n"
    yield f"`{record.source}`, {short_clock(record.duration_seconds)}\n"
    for sentence in record.summary:
        links = ", ".join(f"[{i + 1}](#caption-{i + 1})" for i in sentence.sources)
        yield f"{_escaped(sentence.text)} ({links})"
    pictures = [None if one is None else jpeg_uri(one) for one in middles(record, load)]
    for chapter in record.chapters:
        yield from _chapter(record, chapter, pictures)
    left = [c for c in record.captions if c.error]
    for caption in left:
        begin = short_clock(caption.start_seconds)
        yield f"\n**{begin}** no caption: {_escaped(caption.error or '')}"


def _chapter(record: VideoRecord, chapter: Chapter, pictures: list[str | None]) -> Iterator[str]:
    yield f"\n## {short_clock(chapter.start_seconds)} {_escaped(chapter.title)}\n"
    for place, caption in enumerate(record.captions):
        if caption.index not in chapter.captions:
            continue
        begin, end = short_clock(caption.start_seconds), short_clock(caption.end_seconds)
        anchor = f'<a id="caption-{caption.index + 1}"></a>'
        yield f"{anchor}**{begin}–{end}** {_escaped(caption.text)}\n"
        if picture := pictures[place]:
            yield f"![frame at {begin}]({picture})\n"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", one_line(text))
