"""A page for people: title, summary, chapters, and each caption beside its middle frame."""

from __future__ import annotations

import re
from pathlib import Path

from kinema.captioning.exports import Load
from kinema.captioning.exports.pictures import middle_addresses
from kinema.captioning.exports.subtitles import one_line
from kinema.captioning.records import VideoRecord, sections
from kinema.captioning.text import short_clock
from kinema.files import write_atomically
from kinema.pages import template


def write_markdown(record: VideoRecord, path: Path, load: Load | None) -> None:
    """One file with its pictures inside."""
    page = template(Path(__file__).with_name("markdown.md")).render(
        record=record,
        pictures=middle_addresses(record, load),
        clock=short_clock,
        sections=sections(record),
        plain=_plain,
        code=lambda text: one_line(text).replace("`", "'"),
    )
    write_atomically(path, page)


def _plain(text: str) -> str:
    """A text in which nothing reads as Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>#|~&$!])", r"\\\1", one_line(text))
