"""Captions as a Parquet table: one row a caption, typed, for data sets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from kinema.captioning.exports.csv import caption_rows
from kinema.captioning.records import VideoRecord
from kinema.files import whole_file

_ROWS = 10_000
"""In one row group."""

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("content", pa.string()),
        ("status", pa.string()),
        ("title", pa.string()),
        ("summary", pa.string()),
        ("duration_seconds", pa.float64()),
        ("segment", pa.int32()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("caption", pa.string()),
        ("speech", pa.string()),
        ("subtitles", pa.string()),
        ("frame_indices", pa.list_(pa.int64())),
        ("frame_seconds", pa.list_(pa.float64())),
        ("finish_reason", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("fingerprint", pa.string()),
        ("error", pa.string()),
    ]
)


def write_parquet(records: Iterable[VideoRecord], path: Path) -> None:
    """Every caption; a video without any has one row that says why."""
    rows = (row for record in records for row in caption_rows(record, SCHEMA.names))
    with whole_file(path) as draft, parquet.ParquetWriter(draft, SCHEMA) as writer:
        while group := list(islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
