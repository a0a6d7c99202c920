"""Captions as rows of a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kinema.captioning.records import VideoRecord
from kinema.textfiles import write_table

COLUMNS = (
    "source",
    "status",
    "title",
    "segment",
    "start_seconds",
    "end_seconds",
    "caption",
    "finish_reason",
    "flags",
    "error",
)


def write_csv(records: Iterable[VideoRecord], path: Path) -> None:
    """One row a caption; a video without any has one row that says why."""
    rows = (row for record in records for row in caption_rows(record, COLUMNS))
    write_table(path, COLUMNS, (row | {"flags": " ".join(row.get("flags", ()))} for row in rows))


def caption_rows(record: VideoRecord, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What is known about each caption, or about a video without any, by column."""
    about = vars(record) | {"summary": record.summary_text}
    common = {name: about[name] for name in columns if name in about}
    if not record.captions:
        yield common
    for caption in record.captions:
        own = caption.to_dict() | {"segment": caption.index, "caption": caption.text}
        yield common | {name: own[name] for name in columns if name in own}
