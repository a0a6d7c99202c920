"""Rows of data files with the line each begins on: JSON, tables, Parquet, folders of these."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from kinema.errors import UsageError
from kinema.lazy import Named, require_packages
from kinema.textfiles import Row, read_json_lines, read_json_list, read_table

_ROWS_AT_ONCE = 64
"""Rows of a Parquet file."""


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a data file, or of a folder with ``metadata.jsonl`` or Parquet files.

    Raises:
        UsageError: there is no such file, or not even its frame can be read.
        MissingPackage: Parquet, and pyarrow is not installed.
    """
    for file in _files(path):
        yield from FORMATS[file.suffix](file)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    named = path / "metadata.jsonl"
    found = [named] if named.is_file() else sorted(path.rglob("*.parquet"))
    if not found:
        raise UsageError(
            f"There is no data file {path}.",
            hint=f"Give a file ({', '.join(FORMATS)}), or a folder with Parquet files.",
        )
    return found


def read_table_rows(path: Path) -> Iterator[Row]:
    """Rows of a CSV or TSV file with a header, by their number; empty cells are left out."""
    for number, row in enumerate(read_table(path), start=1):
        yield Row(number, {name: cell for name, cell in row.items() if cell})


def read_parquet(path: Path) -> Iterator[Row]:
    """The rows of Hugging Face's file of a data set by their number, a few in memory at a time.

    Raises:
        UsageError: it is no Parquet file.
        MissingPackage: pyarrow is not installed.
    """
    require_packages("The data file format '.parquet'", ["pyarrow"])
    from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415  an extra

    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as problem:
        raise UsageError(f"{path.name} is no Parquet file.", hint="Check the file.") from problem
    with file:
        batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE))
        yield from map(Row, itertools.count(1), itertools.chain.from_iterable(batches))


FORMATS: Named[Callable[[Path], Iterator[Row]]] = Named(
    "data file format",
    {
        ".jsonl": read_json_lines,
        ".ndjson": read_json_lines,
        ".json": read_json_list,
        ".csv": read_table_rows,
        ".tsv": read_table_rows,
        ".parquet": read_parquet,
    },
)
"""Ends of data files."""
