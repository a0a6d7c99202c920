"""Read the next videos while the model works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

_END: Any = object()


def prefetch(
    items: Iterable[Item], load: Callable[[Item], Loaded], *, depth: int = 2
) -> Iterator[Loaded]:
    """Yield ``load(item)`` in order, loading up to ``depth`` results ahead in a thread.

    Memory holds at most ``depth`` waiting results and one in the making. Leaving the loop early, or
    an error in it, stops the thread before this iterator is closed; an error of ``load`` or of
    ``items`` is raised at its place in the order.
    """
    left = iter(items)

    def load_next() -> Loaded:
        item: Any = next(left, _END)
        return _END if item is _END else load(item)

    with ThreadPoolExecutor(1, thread_name_prefix="kinema-prefetch") as pool:
        ahead: deque[Future[Loaded]] = deque()
        try:
            for _ in range(max(1, depth) + 1):
                ahead.append(pool.submit(load_next))
            while (loaded := ahead.popleft().result()) is not _END:
                ahead.append(pool.submit(load_next))
                yield loaded
        finally:
            for future in ahead:
                future.cancel()
