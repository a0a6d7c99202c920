"""A server's engine as one of its own for a job in a thread: both share the batches."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kinema.engines import Generates
from kinema.engines.base import failed
from kinema.errors import KinemaError
from kinema.messages import Completion, Delta, Request
from kinema.server.batcher import Batcher

_LOOK_SECONDS = 0.1
"""How often a waiting job looks whether it was cancelled."""


class Cancelled(Exception):
    """Whoever asked for the work does not want it any more."""


class LentEngine:
    """Passes requests to a batcher, a few at a time, so that other callers get their turn.

    Args:
        batcher: runs ``engine``.
        engine: asked for facts only, and in its own thread.
        name: stands before the ids of requests; no two jobs have the same.
        most: requests that are on their way at once.
        is_cancelled: looked at while waiting.
    """

    def __init__(
        self,
        batcher: Batcher,
        engine: Generates,
        *,
        name: str,
        most: int,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.name = engine.name
        self.context_length = engine.context_length
        self.num_answers = 0
        self._batcher = batcher
        self._engine = engine
        self._prefix = name
        self._most = most
        self._is_cancelled = is_cancelled

    def count_tokens(self, request: Request) -> int:
        """See :class:`kinema.engines.Engine`."""
        return self._batcher.ask(lambda: self._engine.count_tokens(request))

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they get ready.

        Raises:
            Cancelled: nobody wants them any more.
        """
        heard: queue.SimpleQueue[tuple[Request, Delta | KinemaError]] = queue.SimpleQueue()
        running: dict[str, Request] = {}
        coming = iter(requests)
        try:
            while True:
                self._fill(running, coming, heard)
                if not running:
                    return
                request, piece = self._next(heard)
                completion = _completion(request, piece)
                if completion is not None:
                    del running[request.id]
                    self.num_answers += 1
                    yield completion
        finally:
            self._batcher.forget([self._id(request_id) for request_id in running])

    def close(self) -> None:
        """The server's engine stays open."""

    def _fill(
        self,
        running: dict[str, Request],
        coming: Iterator[Request],
        heard: queue.SimpleQueue[tuple[Request, Delta | KinemaError]],
    ) -> None:
        while len(running) < self._most and (request := next(coming, None)) is not None:
            self._check()
            running[request.id] = request
            ours = replace(request, id=self._id(request.id))
            self._batcher.submit(
                ours,
                deliver=lambda piece, request=request: heard.put((request, piece)),  # type: ignore[misc]
            )

    def _next(
        self, heard: queue.SimpleQueue[tuple[Request, Delta | KinemaError]]
    ) -> tuple[Request, Delta | KinemaError]:
        while True:
            self._check()
            try:
                return heard.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue

    def _check(self) -> None:
        if self._is_cancelled():
            raise Cancelled

    def _id(self, request_id: str) -> str:
        return f"{self._prefix}-{request_id}"


def _completion(request: Request, piece: Delta | KinemaError) -> Completion | None:
    if isinstance(piece, KinemaError):
        return failed(request, piece)
    if piece.completion is None:
        return None
    return replace(piece.completion, request_id=request.id)
