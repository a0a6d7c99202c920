"""Bytes read bit by bit, as the headers of coded pictures are written."""

from __future__ import annotations


class Bits:
    """A cursor over bytes, the highest bit of each first; meant for headers, not for pictures.

    Every method raises ``IndexError`` where the bytes end.
    """

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int = 1) -> int:
        """An unsigned number of ``count`` bits."""
        if count > self._left:
            raise IndexError
        self._left -= count
        return self._number >> self._left & ((1 << count) - 1)

    def read_ue(self) -> int:
        """An unsigned Exp-Golomb number (H.264, section 9.1)."""
        length = (self._number & ((1 << self._left) - 1)).bit_length()
        zeros = self._left - length
        self._left = length
        return self.read(zeros + 1) - 1

    def read_se(self) -> int:
        """A signed Exp-Golomb number (H.264, section 9.1.1)."""
        value = self.read_ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)
