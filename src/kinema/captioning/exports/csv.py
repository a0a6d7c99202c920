"""Captions as rows of a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kinema.captioning.exports import RunExport
from kinema.captioning.records import Caption, VideoRecord
from kinema.files import write_lines

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
    rows = (row for record in records for row in rows_of(record))
    write_lines(path, csv_lines(COLUMNS, rows))


def rows_of(record: VideoRecord) -> Iterator[dict[str, Any]]:
    """A flat row for each caption."""
    common = {"source": record.source, "status": record.status, "title": record.title}
    if not record.captions:
        yield common | {"error": record.error}
    for caption in record.captions:
        yield common | _caption(caption)


def _caption(caption: Caption) -> dict[str, Any]:
    return {
        "segment": caption.index,
        "start_seconds": caption.start_seconds,
        "end_seconds": caption.end_seconds,
        "caption": caption.text,
        "finish_reason": caption.finish_reason,
        "flags": " ".join(caption.flags),
        "error": caption.error,
    }


def csv_lines(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A line of names, then one a row."""
    for row in chain([{name: name for name in columns}], rows):
        line = io.StringIO()
        csv.DictWriter(line, columns, lineterminator="").writerow(row)
        yield line.getvalue()


CSV = RunExport("captions.csv", write_csv)
