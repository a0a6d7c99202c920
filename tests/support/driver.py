"""Runs requests through an engine without a scheduler, and raises what the engine raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kinema.engines import Engine
from kinema.errors import KinemaError
from kinema.messages import Completion, Request


class ListInbox:
    """An inbox over a list of requests; keeps what the engine says of each."""

    def __init__(
        self, engine: Engine, requests: Iterable[Request], *, streamed: bool = False
    ) -> None:
        self.engine = engine
        self.waiting = list(requests)
        self.streamed = streamed
        self.cancelled: set[str] = set()
        self.pieces: list[tuple[str, str]] = []
        self.completions: list[Completion] = []
        self.problems: dict[str, KinemaError] = {}
        self.taken: list[list[Request]] = []

    def take(self, running: Sequence[Request] = ()) -> list[Request]:
        chosen = self.engine.pick(self.waiting, running)
        self.waiting = [r for r in self.waiting if not any(r is c for c in chosen)]
        if chosen:
            self.taken.append(list(chosen))
        return list(chosen)

    def is_cancelled(self, request_id: str) -> bool:
        return request_id in self.cancelled

    def is_streamed(self, request_id: str) -> bool:
        return self.streamed

    def write(self, request_id: str, text: str) -> None:
        self.pieces.append((request_id, text))

    def complete(self, completion: Completion) -> None:
        self.completions.append(completion)

    def fail(self, request_id: str, problem: KinemaError) -> None:
        self.problems[request_id] = problem


def generate(engine: Engine, requests: Iterable[Request]) -> list[Completion]:
    """Completions in the order in which they got ready; the first failure is raised."""
    inbox = ListInbox(engine, requests)
    engine.serve(inbox)
    for problem in inbox.problems.values():
        raise problem
    return inbox.completions


def answer(engine: Engine, request: Request) -> Completion:
    """The completion of one request."""
    (completion,) = generate(engine, [request])
    return completion


def stream(engine: Engine, request: Request) -> Iterator[str | Completion]:
    """Pieces of one answer, and its completion at the end."""
    inbox = ListInbox(engine, [request], streamed=True)
    engine.serve(inbox)
    for problem in inbox.problems.values():
        raise problem
    yield from (text for _, text in inbox.pieces)
    yield from inbox.completions
