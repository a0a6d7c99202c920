"""Released weights: streams of msgpack entries, and the plain msgpack trees of flax.

A stream is entry after entry, no header and no index: ``[key path, bytes]``, where the bytes are a
msgpack document of their own. Arrays are extension type 1 with ``[shape, dtype name, bytes]``
inside; one above 2^30 bytes is a map of chunks, consecutive slices of its flattened values. We
only walk over the headers and remember where the values lie.
Format as written by ``flax.serialization`` and the original's streaming checkpointer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kinema.errors import ModelError
from kinema.models.lwm.stored import StoredTensor, check_within, dtype_named

_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"
_LENGTHS = {
    0xC4: "B", 0xC5: "H", 0xC6: "I",  # bin
    0xC7: "B", 0xC8: "H", 0xC9: "I",  # ext
    0xD9: "B", 0xDA: "H", 0xDB: "I",  # str
    0xDC: "H", 0xDD: "I",  # array
    0xDE: "H", 0xDF: "I",  # map
}  # fmt: skip
_NUMBERS = {
    0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q",
    0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class _Value:
    """A header: ``count`` is a length in bytes, or a number of members, or the value itself."""

    kind: str
    count: Any
    code: int = 0


class _Cursor:
    """Reads headers one by one and remembers what it was reading, for messages."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = path.stat().st_size
        self.tensor = "its first entry"

    @property
    def at(self) -> int:
        return self.file.tell()

    def bytes(self, count: int) -> bytes:
        check_within(self.path, self.tensor, self.at + count, self.size)
        return self.file.read(count)

    def skip(self, count: int) -> int:
        """Pass over values; returns where they begin."""
        start = self.at
        check_within(self.path, self.tensor, start + count, self.size)
        self.file.seek(start + count)
        return start

    def header(self) -> _Value:
        byte = self.bytes(1)[0]
        if short := _short(byte):
            return short
        if byte in _CONSTANTS:
            return _Value("plain", _CONSTANTS[byte])
        if byte in _NUMBERS:
            return _Value("plain", self._number(_NUMBERS[byte]))
        if 0xD4 <= byte <= 0xD8:
            return _Value("ext", 1 << (byte - 0xD4), self.bytes(1)[0])
        if byte in _LENGTHS:
            return self._long(byte)
        raise self.broken("an unknown msgpack type")

    def _long(self, byte: int) -> _Value:
        count = self._number(_LENGTHS[byte])
        if byte <= 0xC6:
            return _Value("bin", count)
        if byte <= 0xC9:
            return _Value("ext", count, self.bytes(1)[0])
        return _Value("str" if byte <= 0xDB else "array" if byte <= 0xDD else "map", count)

    def _number(self, code: str) -> Any:
        return struct.unpack(f">{code}", self.bytes(struct.calcsize(code)))[0]

    def expect(self, kind: str) -> Any:
        start, value = self.at, self.header()
        if value.kind != kind:
            raise self.broken(f"{value.kind} where {kind} belongs", at=start)
        return value.count

    def string(self) -> str:
        return self.bytes(self.expect("str")).decode("utf-8", "replace")

    def broken(self, what: str, at: int | None = None) -> ModelError:
        at = self.at - 1 if at is None else at
        return ModelError(
            f"{self.path} has {what} at byte {at}, in {self.tensor}.",
            hint="It is no LWM params file, or it is damaged.",
        )


def _short(byte: int) -> _Value | None:
    """Headers of one byte."""
    if byte <= 0x7F:
        return _Value("plain", byte)
    if byte >= 0xE0:
        return _Value("plain", byte - 256)
    for first, mask, kind in ((0x80, 0x0F, "map"), (0x90, 0x0F, "array"), (0xA0, 0x1F, "str")):
        if first <= byte <= first + mask:
            return _Value(kind, byte & mask)
    return None


def index_stream(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a streaming checkpoint lies, by ``a/b/c`` name.

    Raises:
        ModelError: the stream is cut off or no msgpack; names the tensor and the byte.
    """
    found: dict[str, StoredTensor] = {}
    with path.open("rb") as file:
        cursor = _Cursor(path, file)
        while cursor.at < cursor.size:
            name = _entry_name(cursor)
            cursor.tensor = name
            end = cursor.expect("bin") + cursor.at
            check_within(path, name, end, cursor.size)
            found.update(_walk(cursor, name))
            if cursor.at != end:
                raise cursor.broken("a value that is shorter or longer than its entry")
            cursor.tensor = f"the entry after {name}"
    return found


def _entry_name(cursor: _Cursor) -> str:
    if (members := cursor.expect("array")) != 2:
        raise cursor.broken(f"an entry of {members} members instead of 2")
    return "/".join(cursor.string() for _ in range(cursor.expect("array")))


def index_tree(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of an ordinary flax msgpack file lies.

    Raises:
        ModelError: the file is cut off or no msgpack; names the tensor and the byte.
    """
    with path.open("rb") as file:
        cursor = _Cursor(path, file)
        found = dict(_walk(cursor, ""))
        if not found:
            raise cursor.broken("no tensor")
        return found


def _walk(cursor: _Cursor, name: str) -> Iterator[tuple[str, StoredTensor]]:
    value = cursor.header()
    if value.kind == "ext" and value.code in (_ARRAY, _SCALAR):
        yield name, _array(cursor)
    elif value.kind == "map":
        yield from _members(cursor, name, value.count)
    elif value.kind == "array":
        for position in range(value.count):
            yield from _walk(cursor, f"{name}/{position}")
    elif value.kind in ("ext", "str", "bin"):
        cursor.skip(value.count)


def _members(cursor: _Cursor, name: str, count: int) -> Iterator[tuple[str, StoredTensor]]:
    """A map is a folder of tensors, or one tensor in chunks."""
    chunks: dict[int, StoredTensor] = {}
    shape: tuple[int, ...] = ()
    chunked = False
    for _ in range(count):
        key = cursor.string()
        if key == _CHUNKED:
            chunked = bool(cursor.header().count)
        elif chunked and key == "shape":
            shape = tuple(size for _, size in sorted(_plain_map(cursor).items()))
        elif chunked and key == "chunks":
            chunks = {int(k): _chunk(cursor) for k in _keys(cursor)}
        else:
            cursor.tensor = f"{name}/{key}".lstrip("/")
            yield from _walk(cursor, cursor.tensor)
    if chunked:
        yield name, _joined(cursor, [chunks[i] for i in sorted(chunks)], shape)


def _keys(cursor: _Cursor) -> Iterator[str]:
    for _ in range(cursor.expect("map")):
        yield cursor.string()


def _plain_map(cursor: _Cursor) -> dict[int, int]:
    return {int(key): cursor.expect("plain") for key in _keys(cursor)}


def _chunk(cursor: _Cursor) -> StoredTensor:
    cursor.expect("ext")
    return _array(cursor)


def _array(cursor: _Cursor) -> StoredTensor:
    """The body of an array: shape, type, values; the cursor stands behind the ext header."""
    if cursor.expect("array") != 3:
        raise cursor.broken("an array without shape, type and values")
    shape = tuple(cursor.expect("plain") for _ in range(cursor.expect("array")))
    name = cursor.string()
    size = cursor.expect("bin")
    try:
        dtype = dtype_named(name)
    except TypeError:
        raise cursor.broken(f"the unknown number type {name!r}") from None
    if size != math.prod(shape) * dtype.itemsize:
        raise cursor.broken(f"{size} bytes for {name}{list(shape)}")
    return StoredTensor(cursor.path, dtype, shape, ((cursor.skip(size), size),))


def _joined(cursor: _Cursor, chunks: list[StoredTensor], shape: tuple[int, ...]) -> StoredTensor:
    held = sum(math.prod(chunk.shape) for chunk in chunks)
    if not chunks or held != math.prod(shape):
        raise cursor.broken(f"chunks of {held} values for a tensor of {list(shape)}")
    spans = tuple(span for chunk in chunks for span in chunk.spans)
    return StoredTensor(cursor.path, chunks[0].dtype, shape, spans)
