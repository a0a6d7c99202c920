"""Text files and rows in them, as people have them: one reader and one writer of each kind.

A line ends with a line feed, with or without a carriage return, and with nothing else: U+2028,
U+2029 and U+0085 stand inside of JSON texts. Files may begin with a byte order mark and may be
UTF-16, as Windows and Excel write them.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.files import whole_file, write_lines

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE_ENDS_OF_OTHERS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\u2028\u2029\u0085"}
"""Line ends for Python's ``splitlines``, JavaScript and some editors; escaped where we write."""
_DELIMITERS = ",;\t"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Row:
    """One row as it was written."""

    line: int
    """Where it begins, counted from one; of files without lines, the row."""
    value: Any
    error: str = ""
    """Why there is no value."""
    text: str = ""
    """The line itself, where there is no value."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in marked UTF-16 or -32.

    Line ends are as they were written.

    Raises:
        UsageError: it is none of these; says where the first wrong byte is.
        OSError: the file cannot be read.
    """
    raw = path.read_bytes()
    encoding = _encoding_of(raw[:4])
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise UsageError(
            f"{path.name}, line {line}: byte 0x{raw[problem.start]:02x} is not {encoding}.",
            hint="Save the file as UTF-8.",
        ) from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers, from one, and texts of a file's lines, read one at a time; empty ones are left out.

    A byte that is not in the file's encoding becomes a lone surrogate.
    """
    with path.open("rb") as file:
        encoding = _encoding_of(file.read(4))
        file.seek(0)
        text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="\n")
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def read_json_lines(path: Path) -> Iterator[Row]:
    """One row a line; a line that is not JSON, or not in the file's encoding, has an error."""
    for number, line in read_lines(path):
        try:
            line.encode()
            yield Row(number, json.loads(line))
        except UnicodeEncodeError:
            shown = line.encode(errors="surrogateescape").decode(errors="replace")
            yield Row(number, None, "This is not UTF-8.", shown)
        except (ValueError, RecursionError) as problem:
            yield Row(number, None, f"This is no JSON: {problem}.", line)


def read_json_list(path: Path) -> Iterator[Row]:
    """The items of a JSON list, each with the line it begins on.

    Raises:
        UsageError: the file is no JSON list.
    """
    text = read_text(path)
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    if not text.startswith("[", place):
        raise UsageError(f"{path.name} is no JSON list.", hint="Put the rows into [ ].")
    place, counted, line = _skip(text, place + 1), 0, 1
    while not text.startswith("]", place):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as problem:
            raise UsageError(f"{path.name} is not JSON: {problem}.", hint="Repair it.") from None
        yield Row(line, value)
        place = _skip(text, end)
        if text.startswith(",", place):
            place = _skip(text, place + 1)


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        UsageError: it is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{path.name} is not JSON: {problem}.", hint="Check the file.") from None


def read_cells(path: Path) -> list[list[str]]:
    """Rows of a table whose cells are divided by commas, semicolons or tabs; empty ones left out.

    Cells in quotes may hold line ends. The first line decides what divides them.
    """
    text = read_text(path)
    header = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(_DELIMITERS, key=header.count)
    csv.field_size_limit(sys.maxsize)  # a description may be longer than the usual 128 KiB
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return list(filter(None, cells))


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table with a header line; a missing cell is left out of its row."""
    header, *rows = read_cells(path) or [[]]
    names = [name.strip() for name in header]
    return [dict(zip(names, row, strict=False)) for row in rows]


def json_line(value: Any) -> str:
    """A value as one line of JSON that no reader splits."""
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS_OF_OTHERS)


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one JSON value a line, whole or not at all."""
    write_lines(path, map(json_line, values))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line of names, then one row a line, whole or not at all.

    A text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP's rule
    against CSV injection): what a model read off a video must not run.
    """
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _harmless(cell) for name, cell in row.items()} for row in rows)


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _encoding_of(beginning: bytes) -> str:
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    # UTF-16 without a mark: text begins with a sign of ASCII, whose other byte is zero.
    if len(beginning) >= 2 and beginning[1] == 0 and beginning[0]:
        return "utf-16-le"
    return "utf-16-be" if len(beginning) >= 2 and beginning[0] == 0 and beginning[1] else "utf-8"


def _skip(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place
