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
    # Room left in each bin, those not begun yet among them, in a tree of maxima: its root is node
    # 1 and bins lie from node ``size`` on, so the first fit takes log(n) steps.
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [capacity] * (2 * size)
    for item in order:
        node = 1
        while node < size:
            node = 2 * node if room[2 * node] >= lengths[item] else 2 * node + 1
        if node - size == len(bins):
            bins.append([])
        bins[node - size].append(item)
        room[node] -= lengths[item]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return bins
