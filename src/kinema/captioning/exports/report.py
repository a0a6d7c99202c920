"""A page to look at a video and its captions: click a chapter, caption or source and it plays."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from kinema.captioning.exports import Load
from kinema.captioning.exports.pictures import middle_addresses, sheet
from kinema.captioning.records import VideoRecord, sections
from kinema.captioning.text import short_clock
from kinema.files import write_atomically
from kinema.pages import template
from kinema.video.data_uri import jpeg_uri

_MOST_THUMBNAILS = 200
"""A longer page shows contact sheets alone."""
_SHEET_FRAMES = 12


def write_html(record: VideoRecord, path: Path, load: Load | None) -> None:
    """One file; pictures are inside, the video is the one that was described."""
    source, info = Path(record.source), record.info
    size = [f"{info['width']}×{info['height']}", info["codec"]] if info else []
    sheets = (sheet(record, chapter, load, most=_SHEET_FRAMES) for chapter in record.chapters)
    page = template(Path(__file__).with_name("report.html")).render(
        record=record,
        sections=sections(record),
        title=record.title or source.name,
        video=quote(os.path.relpath(source, path.parent)) if source.is_file() else None,
        facts=[record.source, short_clock(record.duration_seconds), *size],
        starts={caption.index: caption.start_seconds for caption in record.captions},
        sheets=[None if picture is None else jpeg_uri(picture) for picture in sheets],
        thumbnails=middle_addresses(record, load)
        if len(record.captions) <= _MOST_THUMBNAILS
        else {},
        clock=short_clock,
    )
    write_atomically(path, page)
