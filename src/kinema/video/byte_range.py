"""Ranges of open files as files of their own: tar members, downloads, files held by descriptor."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from collections.abc import Iterable
from typing import BinaryIO


class OpenFile:
    """A descriptor that is closed when the last user lets go of it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @property
    def num_bytes(self) -> int:
        """Length of the file."""
        return os.fstat(self.descriptor).st_size

    def range(self, start_byte: int = 0, num_bytes: int | None = None) -> ByteRange:
        """Part of the file, the rest of it when ``num_bytes`` is None."""
        rest = max(0, self.num_bytes - start_byte)
        return ByteRange(self, start_byte, rest if num_bytes is None else min(num_bytes, rest))


class ByteRange:
    """``num_bytes`` of a file from ``start_byte`` on; every handle has a position of its own."""

    def __init__(self, file: OpenFile, start_byte: int, num_bytes: int) -> None:
        self.file = file
        self.start_byte = start_byte
        self.num_bytes = num_bytes

    def open(self) -> BinaryIO:
        """A fresh binary handle at the first byte of the range."""
        return io.BufferedReader(_RangeReader(self), buffer_size=1 << 16)


class _RangeReader(io.RawIOBase):
    def __init__(self, part: ByteRange) -> None:
        self._part = part
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.num_bytes}
        position = base[whence] + offset
        if position < 0:
            raise OSError("seek before the first byte")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = max(0, self._part.num_bytes - self._position)
        start = self._part.start_byte + self._position
        count = os.preadv(self._part.file.descriptor, [memoryview(buffer)[:left]], start)
        self._position += count
        return count


def spool(pieces: Iterable[bytes]) -> ByteRange:
    """Write pieces to a temporary file that has no name, so that nothing can be left behind."""
    with tempfile.TemporaryFile(prefix="kinema-") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        return OpenFile(os.dup(file.fileno())).range()
