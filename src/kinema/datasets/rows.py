"""Rows of data files with the line each begins on: .jsonl, .json, Parquet, folders of these."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.lazy import Named, require_packages

_ROWS_AT_ONCE = 64
"""Rows of a Parquet file."""


@dataclass(frozen=True)
class DataRow:
    """One row as it was written."""

    line: int
    """Where it begins, counted from one; of Parquet, the row."""
    value: Any
    error: str = ""
    """Why there is no value."""


def read_rows(path: Path) -> Iterator[DataRow]:
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


def read_jsonl(path: Path) -> Iterator[DataRow]:
    """One row a line; empty lines are none."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield DataRow(number, json.loads(line))
                except ValueError as problem:
                    yield DataRow(number, None, f"This is no JSON: {problem}.")


def read_json(path: Path) -> Iterator[DataRow]:
    """The items of a list, each with the line it begins on.

    Raises:
        UsageError: the file is no JSON list.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    if not text.startswith("[", place):
        raise UsageError(f"{path.name} is no JSON list.", hint="Put the rows into [ ].")
    place, counted, line = _skip(text, place + 1), 0, 1
    while not text.startswith("]", place):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except ValueError as problem:
            raise UsageError(f"{path.name} is not JSON: {problem}.", hint="Repair it.") from None
        yield DataRow(line, value)
        place = _skip(text, end)
        if text.startswith(",", place):
            place = _skip(text, place + 1)


def read_parquet(path: Path) -> Iterator[DataRow]:
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
        yield from map(DataRow, itertools.count(1), itertools.chain.from_iterable(batches))


def _skip(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


FORMATS: Named[Callable[[Path], Iterator[DataRow]]] = Named(
    "data file format", {".jsonl": read_jsonl, ".json": read_json, ".parquet": read_parquet}
)
"""Ends of data files."""
