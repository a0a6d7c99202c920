"""Which samples share a row: bins of one capacity, filled first-fit decreasing."""

from __future__ import annotations

import random
from collections.abc import Sequence


def pack(lengths: Sequence[int], *, capacity: int, seed: int) -> list[list[int]]:
    """Put items into as few bins as first-fit decreasing finds.

    Args:
        lengths: tokens of each item, none above ``capacity``.
        capacity: tokens of a bin.
        seed: of the order in which items of one length are taken.

    Returns:
        Indices by bin; every index once.
    """
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda i: -lengths[i])
    bins: list[list[int]] = []
    room = _Room(len(lengths))
    for item in order:
        at = room.first(lengths[item])
        if at == len(bins):
            bins.append([])
            room.set(at, capacity)
        bins[at].append(item)
        room.take(at, lengths[item])
    return bins


class _Room:
    """Room left in each bin, in a tree of maxima, so that the first fit takes log(n) steps."""

    def __init__(self, most: int) -> None:
        self._size = 1 << max(most - 1, 0).bit_length()
        self._tree = [0] * (2 * self._size)
        self._open = 0

    def first(self, length: int) -> int:
        """The first bin with room for ``length``, or the number of bins."""
        if self._tree[1] < length:
            return self._open
        node = 1
        while node < self._size:
            node = 2 * node if self._tree[2 * node] >= length else 2 * node + 1
        return node - self._size

    def set(self, index: int, room: int) -> None:
        """Open a bin."""
        self._open = max(self._open, index + 1)
        node = index + self._size
        self._tree[node] = room
        while node > 1:
            node //= 2
            self._tree[node] = max(self._tree[2 * node], self._tree[2 * node + 1])

    def take(self, index: int, length: int) -> None:
        """Fill a part of a bin."""
        self.set(index, self._tree[index + self._size] - length)
