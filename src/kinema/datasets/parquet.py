"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid, parquet

from kinema.errors import UsageError

_ROWS_AT_ONCE = 64


def parquet_rows(path: Path) -> Iterator[Any]:
    """The rows of one file, a few in memory at a time.

    Raises:
        UsageError: it is no Parquet file.
    """
    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as problem:
        raise UsageError(f"{path.name} is no Parquet file.", hint="Check the file.") from problem
    with file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from batch.to_pylist()
