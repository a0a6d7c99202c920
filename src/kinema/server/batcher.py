"""Many callers, one engine: requests that arrive together run together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from kinema.engines import Generates, OneByOne, Serves
from kinema.errors import Busy, KinemaError, ModelError
from kinema.messages import Delta, Request

T = TypeVar("T")
_log = logging.getLogger(__name__)

_COMPANY_SECONDS = 0.02
"""How long an idle engine waits for requests whose videos are being read."""
_LOOK_AHEAD = 4
"""Batches' worth of requests that are looked at for one that may join."""

Prepare = Callable[[], Request]
"""Renders and fits a request; runs in the engine's thread, which alone may ask the engine."""


@dataclass(eq=False)
class Ticket:
    """One request on its way through the engine, and where its caller listens."""

    id: str
    prepare: Prepare
    deliver: Callable[[Delta | KinemaError], None]
    request: Request | None = None


@dataclass
class Waiting:
    """The engine's inbox: what waits and what runs, shared by its thread and the callers'."""

    waiting: dict[str, Ticket] = field(default_factory=dict)
    running: dict[str, Ticket] = field(default_factory=dict)
    errands: deque[Callable[[], None]] = field(default_factory=deque)
    """Small things that only the engine's thread may do."""
    arriving: int = 0
    """Requests that were admitted and whose media are being read."""
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Let tickets wait for the engine.

        Raises:
            Busy: the server is shutting down.
        """
        with self.changed:
            self._check_open()
            self.waiting |= {ticket.id: ticket for ticket in tickets}
            self.changed.notify_all()

    def send(self, errand: Callable[[], None]) -> None:
        """Let the engine's thread do something small.

        Raises:
            Busy: the server is shutting down.
        """
        with self.changed:
            self._check_open()
            self.errands.append(errand)
            self.changed.notify_all()

    def wait(self) -> bool:
        """Until something waits, with its company; False when nothing will come any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.errands or self.closed)
            if self.waiting:
                self.changed.wait_for(lambda: not self.arriving, timeout=_COMPANY_SECONDS)
            return bool(self.waiting or self.errands)

    def take(
        self,
        most: int,
        *,
        alike: Callable[[Request], object] = lambda request: None,
        beside: Sequence[Request] = (),
    ) -> list[Request]:
        """See :class:`kinema.engines.Inbox`."""
        while self.errands:
            self.errands.popleft()()
        taken: list[Request] = []
        with self.changed:
            candidates = list(self.waiting.values())[: _LOOK_AHEAD * most]
        for ticket in candidates:
            request = self._prepared(ticket)
            if request is None:
                continue
            if (company := [*beside, *taken]) and alike(request) != alike(company[0]):
                if beside:
                    break
                continue
            if not self._begin(ticket):
                continue
            taken.append(request)
            if len(taken) == most:
                break
        return taken

    def _begin(self, ticket: Ticket) -> bool:
        """Move a ticket to those that run; False when it was cancelled meanwhile."""
        with self.changed:
            if self.waiting.pop(ticket.id, None) is None:
                return False
            self.running[ticket.id] = ticket
            return True

    def is_cancelled(self, request_id: str) -> bool:
        """See :class:`kinema.engines.Inbox`."""
        return request_id not in self.running

    def forget(self, request_ids: Sequence[str]) -> None:
        """These are answered, or nobody waits for them any more."""
        with self.changed:
            for request_id in request_ids:
                self.waiting.pop(request_id, None)
                self.running.pop(request_id, None)

    def _check_open(self) -> None:
        if self.closed:
            raise Busy("The server is shutting down.", retry_after_seconds=10)

    def _prepared(self, ticket: Ticket) -> Request | None:
        try:
            ticket.request = ticket.request or ticket.prepare()
        except KinemaError as problem:
            self.forget([ticket.id])
            ticket.deliver(problem)
        except Exception:
            _log.exception("a request could not be prepared")
            self.forget([ticket.id])
            ticket.deliver(ModelError("The request could not be prepared."))
        return ticket.request


class Batcher:
    """Runs an engine in a thread of its own and hands each caller its pieces.

    Args:
        engine: any; one that :class:`~kinema.engines.Serves` runs requests together.
    """

    def __init__(self, engine: Generates) -> None:
        self._serve = (engine if isinstance(engine, Serves) else OneByOne(engine)).serve
        self._inbox = Waiting()
        self._thread = threading.Thread(target=self._run, name="kinema-engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests that the engine has not begun."""
        return len(self._inbox.waiting)

    @property
    def num_running(self) -> int:
        """Requests that the engine works on."""
        return len(self._inbox.running)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Around the reading of a request's media: an idle engine waits a moment for it."""
        with self._inbox.changed:
            self._inbox.arriving += 1
        try:
            yield
        finally:
            with self._inbox.changed:
                self._inbox.arriving -= 1
                self._inbox.changed.notify_all()

    async def answer(
        self, request_ids: Sequence[str], prepare: Callable[[str], Request]
    ) -> AsyncGenerator[Delta, None]:
        """Pieces of the answers to requests of one caller, mixed, until all have completed.

        Closing the iterator early cancels what is not finished.

        Raises:
            KinemaError: a request could not be prepared, or the server is shutting down.
        """
        heard: asyncio.Queue[Delta | KinemaError] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(what: Delta | KinemaError) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(heard.put_nowait, what)

        unfinished = set(request_ids)
        try:
            self._inbox.put([Ticket(i, lambda i=i: prepare(i), deliver) for i in request_ids])  # type: ignore[misc]
            while unfinished:
                piece = await heard.get()
                if isinstance(piece, KinemaError):
                    raise piece
                if piece.completion is not None:
                    unfinished.discard(piece.request_id)
                yield piece
        finally:
            self._inbox.forget(request_ids)

    def submit(self, request: Request, *, deliver: Callable[[Delta | KinemaError], None]) -> None:
        """Let a request that is ready wait; ``deliver`` hears its pieces in the engine's thread.

        Raises:
            Busy: the server is shutting down.
        """
        self._inbox.put([Ticket(request.id, lambda: request, deliver)])

    def forget(self, request_ids: Sequence[str]) -> None:
        """Nobody waits for these any more."""
        self._inbox.forget(request_ids)

    def ask(self, question: Callable[[], T]) -> T:
        """What ``question`` returns in the engine's thread, which alone may ask the engine.

        Raises:
            Busy: the server is shutting down.
        """
        answer: Future[T] = Future()

        def errand() -> None:
            try:
                answer.set_result(question())
            except Exception as problem:
                answer.set_exception(problem)

        self._inbox.send(errand)
        return answer.result()

    def close(self) -> None:
        """Finish what waits and runs, then end the thread."""
        with self._inbox.changed:
            self._inbox.closed = True
            self._inbox.changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._inbox.wait():
            try:
                for delta in self._serve(self._inbox):
                    self._hand_over(delta)
            except Exception as problem:
                _log.exception("the engine failed")
                self._fail(problem)

    def _hand_over(self, delta: Delta) -> None:
        ticket = self._inbox.running.get(delta.request_id)
        if ticket is None:
            return
        if delta.completion is not None:
            self._inbox.forget([ticket.id])
        ticket.deliver(delta)

    def _fail(self, problem: Exception) -> None:
        """Tell everybody whose request was running; those that wait get their turn."""
        said = problem if isinstance(problem, KinemaError) else ModelError("The engine failed.")
        for ticket in list(self._inbox.running.values()):
            self._inbox.forget([ticket.id])
            ticket.deliver(said)
