"""Bytes read bit by bit, as the headers of coded pictures are written."""

from __future__ import annotations


class Bits:
    """A cursor over bytes, the highest bit of each first.

    Every method raises ``IndexError`` where the bytes end.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, count: int = 1) -> int:
        """An unsigned number of ``count`` bits."""
        value = 0
        for _ in range(count):
            value = value << 1 | (self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1)
            self._at += 1
        return value

    def read_ue(self) -> int:
        """An unsigned Exp-Golomb number (H.264, section 9.1)."""
        zeros = 0
        while not self.read():
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        """A signed Exp-Golomb number (H.264, section 9.1.1)."""
        value = self.read_ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)
