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
from pathlib import Path
from typing import Any, BinaryIO

from kinema.errors import ModelError
from kinema.models.lwm.stored import StoredTensor, check_within, dtype_named

_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"
_SIZED = {
    0xC4: ("bin", "B"), 0xC5: ("bin", "H"), 0xC6: ("bin", "I"),
    0xC7: ("ext", "B"), 0xC8: ("ext", "H"), 0xC9: ("ext", "I"),
    0xCA: ("plain", "f"), 0xCB: ("plain", "d"),
    0xCC: ("plain", "B"), 0xCD: ("plain", "H"), 0xCE: ("plain", "I"), 0xCF: ("plain", "Q"),
    0xD0: ("plain", "b"), 0xD1: ("plain", "h"), 0xD2: ("plain", "i"), 0xD3: ("plain", "q"),
    0xD9: ("str", "B"), 0xDA: ("str", "H"), 0xDB: ("str", "I"),
    0xDC: ("array", "H"), 0xDD: ("array", "I"),
    0xDE: ("map", "H"), 0xDF: ("map", "I"),
}  # fmt: skip
"""First byte to what follows, and how its length or value is written."""
_SHORT = ((0x80, 0x0F, "map"), (0x90, 0x0F, "array"), (0xA0, 0x1F, "str"))
"""First byte, the bits of it that are a length, and what follows."""
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


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

    def header(self) -> tuple[str, Any]:
        """A kind, and a length in bytes, a number of members, or the value itself."""
        byte = self.bytes(1)[0]
        if byte <= 0x7F or byte >= 0xE0:
            return "plain", byte if byte <= 0x7F else byte - 256
        for first, bits, kind in _SHORT:
            if first <= byte <= first + bits:
                return kind, byte & bits
        if byte in _CONSTANTS:
            return "plain", _CONSTANTS[byte]
        if 0xD4 <= byte <= 0xD8:
            kind, value = "ext", 1 << (byte - 0xD4)
        elif byte in _SIZED:
            kind, code = _SIZED[byte]
            (value,) = struct.unpack(f">{code}", self.bytes(struct.calcsize(code)))
        else:
            raise self.broken("an unknown msgpack type")
        if kind == "ext" and self.bytes(1)[0] in (_ARRAY, _SCALAR):
            kind = "tensor"
        return kind, value

    def expect(self, kind: str) -> Any:
        start, (found, value) = self.at, self.header()
        if found != kind:
            raise self.broken(f"{found} where {kind} belongs", at=start)
        return value

    def string(self) -> str:
        return self.bytes(self.expect("str")).decode("utf-8", "replace")

    def broken(self, what: str, at: int | None = None) -> ModelError:
        at = self.at - 1 if at is None else at
        return ModelError(
            f"{self.path} has {what} at byte {at}, in {self.tensor}.",
            hint="It is no LWM params file, or it is damaged.",
        )


def index_stream(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a streaming checkpoint lies, by ``a/b/c`` name.

    Raises:
        ModelError: the stream is cut off or no msgpack; names the tensor and the byte.
    """
    found: dict[str, StoredTensor] = {}
    with path.open("rb") as file:
        cursor = _Cursor(path, file)
        while cursor.at < cursor.size:
            if (members := cursor.expect("array")) != 2:
                raise cursor.broken(f"an entry of {members} members instead of 2")
            name = "/".join(cursor.string() for _ in range(cursor.expect("array")))
            cursor.tensor = name
            end = cursor.expect("bin") + cursor.at
            check_within(path, name, end, cursor.size)
            found.update(_walk(cursor, name))
            if cursor.at != end:
                raise cursor.broken("a value that is shorter or longer than its entry")
            cursor.tensor = f"the entry after {name}"
    return found


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
    kind, value = cursor.header()
    if kind == "tensor":
        yield name, _array(cursor)
    elif kind == "map":
        yield from _members(cursor, name, value)
    elif kind == "array":
        for position in range(value):
            yield from _walk(cursor, f"{name}/{position}")
    elif kind != "plain":
        cursor.skip(value)


def _members(cursor: _Cursor, name: str, count: int) -> Iterator[tuple[str, StoredTensor]]:
    """A map is a folder of tensors, or one tensor in chunks."""
    chunks: dict[int, StoredTensor] = {}
    shape: tuple[int, ...] = ()
    chunked = False
    for _ in range(count):
        key = cursor.string()
        if key == _CHUNKED:
            chunked = bool(cursor.header()[1])
        elif chunked and key == "shape":
            sizes = {int(k): cursor.expect("plain") for k in _keys(cursor)}
            shape = tuple(size for _, size in sorted(sizes.items()))
        elif chunked and key == "chunks":
            for k in _keys(cursor):
                cursor.expect("tensor")
                chunks[int(k)] = _array(cursor)
        else:
            cursor.tensor = f"{name}/{key}".lstrip("/")
            yield from _walk(cursor, cursor.tensor)
    if chunked:
        parts = [chunks[i] for i in sorted(chunks)]
        held = sum(math.prod(part.shape) for part in parts)
        if not parts or held != math.prod(shape):
            raise cursor.broken(f"chunks of {held} values for a tensor of {list(shape)}")
        spans = tuple(span for part in parts for span in part.spans)
        yield name, StoredTensor(cursor.path, parts[0].dtype, shape, spans)


def _keys(cursor: _Cursor) -> Iterator[str]:
    for _ in range(cursor.expect("map")):
        yield cursor.string()


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
