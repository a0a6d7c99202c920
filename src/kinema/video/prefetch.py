"""Read the next videos while the model works on this one."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

_JOIN_SECONDS = 0.02


@dataclass(frozen=True)
class _Done(Generic[Loaded]):
    value: Loaded | None = None
    error: BaseException | None = None
    is_last: bool = False


def prefetch(
    items: Iterable[Item], load: Callable[[Item], Loaded], *, depth: int = 2
) -> Iterator[Loaded]:
    """Yield ``load(item)`` in order, loading up to ``depth`` results ahead in a thread.

    Memory holds at most ``depth`` waiting results and one in the making. Leaving the loop early, or
    an error in it, stops the thread before this iterator is closed; an error of ``load`` or of
    ``items`` is raised at its place in the order.
    """
    ready: queue.Queue[_Done[Loaded]] = queue.Queue(maxsize=max(1, depth))
    stop = threading.Event()
    thread = threading.Thread(
        target=_fill, args=(items, load, ready, stop), name="kinema-prefetch", daemon=True
    )
    thread.start()
    try:
        while not (done := ready.get()).is_last:
            if done.error is not None:
                raise done.error
            yield done.value  # type: ignore[misc]  # a _Done without error holds a value
    finally:
        stop.set()
        while thread.is_alive():
            _make_room(ready)
            thread.join(timeout=_JOIN_SECONDS)


def _fill(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    ready: queue.Queue[_Done[Loaded]],
    stop: threading.Event,
) -> None:
    try:
        for item in items:
            if stop.is_set():
                return
            ready.put(_Done(load(item)))
    except BaseException as error:
        ready.put(_Done(error=error))
    else:
        ready.put(_Done(is_last=True))


def _make_room(ready: queue.Queue[_Done[Loaded]]) -> None:
    """Let a thread that waits to put a result go on, so that it sees the stop."""
    with contextlib.suppress(queue.Empty):
        while True:
            ready.get_nowait()
