"""Keeps an engine full: calls of many videos in one stream, frames decoded ahead.

Calls that only need words go first, because they end videos; between them come captions, whose
frames threads have read already. What the memo knows is never asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kinema.captioning.records import Segment
from kinema.captioning.steps import Answer, Call, Steps
from kinema.engines import Generates
from kinema.errors import KinemaError
from kinema.messages import Completion, Request
from kinema.tasks.caption.asking import Asker, Seen, answer_of, failed_answer
from kinema.tasks.caption.memo import Memo

Item = TypeVar("Item")
Done = TypeVar("Done")
OnCaption = Callable[[Any, Segment, int], None]
"""Told the key of a video, a segment that has its answer, and how many of them had none before."""


def unheard(key: Any, segment: Segment, of: int) -> None:
    """Nobody wants to know."""


@dataclass(eq=False)
class Video:
    """One video on its way: its steps, and the answers they wait for."""

    key: Any
    """What the caller knows it by."""
    source: str
    steps: Steps[Any]
    asked: dict[str, Call] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    known: int = 0
    """Captions that the memo had."""
    has_begun: bool = False
    is_over: bool = False


@dataclass(eq=False)
class _Flight:
    """A call that the engine has, and every video that waits for it."""

    call: Call
    source: str
    waiting: list[Video]
    seen: Seen | None = None
    request: Request | None = None
    note: str = ""


class Feed:
    """Turns videos into a stream of requests, and completions into finished videos.

    Args:
        videos: in order; taken up as the engine has room. A pair of key and error is a video that
            could not be planned.
        asker: makes requests.
        memo: answers that are known already.
        engine: opens the engine, or returns the one that is open.
        pool: threads that decode.
        ahead: captions whose frames are read before the engine asks for them.
        on_caption: told of every answer about a segment.
    """

    def __init__(
        self,
        videos: Iterator[Video | tuple[Any, KinemaError]],
        *,
        asker: Asker,
        memo: Memo,
        engine: Callable[[], Generates],
        pool: ThreadPoolExecutor,
        ahead: int,
        on_caption: OnCaption = unheard,
    ) -> None:
        self._videos = videos
        self._asker = asker
        self._memo = memo
        self._engine = engine
        self._on_caption = on_caption
        self._flights: dict[str, _Flight] = {}
        self._words: deque[_Flight] = deque()
        self._pictures = read_ahead(pool, self._look, self._captions(), depth=ahead)
        self._finished: list[tuple[Any, Any]] = []

    def requests(self) -> Iterator[Request]:
        """Requests until nothing can be asked before an answer comes."""
        while (request := self.next_request()) is not None:
            yield request

    def next_request(self) -> Request | None:
        """The next request; None when all that is left waits for answers, or nothing is."""
        while (flight := self._next_flight()) is not None:
            try:
                if flight.request is None:
                    made = self._asker.request(flight.call, flight.seen, self._engine())
                    flight.request, flight.note = made
            except KinemaError as problem:
                self._land(flight, failed_answer(problem))
                continue
            return flight.request
        return None

    def take(self, completion: Completion) -> None:
        """Hand an answer to the videos that wait for it."""
        flight = self._flights[completion.request_id]
        assert flight.request is not None
        answer = answer_of(completion, flight.request, seen=flight.seen, note=flight.note)
        if answer.error is None:
            self._memo.put(flight.call.id, answer.to_dict())
        self._land(flight, answer)

    def unanswered(self) -> list[Request]:
        """Requests that were handed out and have no answer."""
        return [f.request for f in self._flights.values() if f.request is not None]

    def give_up(self, request: Request, problem: KinemaError) -> None:
        """A request has no answer and gets none."""
        self._land(self._flights[request.id], failed_answer(problem))

    def take_finished(self) -> list[tuple[Any, Any]]:
        """Videos that ended since the last call, with what their steps made or what went wrong."""
        taken, self._finished = self._finished, []
        return taken

    def _next_flight(self) -> _Flight | None:
        while not self._words:
            flight, seen = next(self._pictures, (None, None))
            if flight is None:
                break
            if not isinstance(seen, KinemaError):
                flight.seen = seen
                return flight
            self._land(flight, failed_answer(seen))
        return self._words.popleft() if self._words else None

    def _captions(self) -> Iterator[_Flight]:
        """Calls with frames, video after video; what has none goes to its own queue."""
        for video in self._videos:
            if isinstance(video, tuple):
                self._finished.append(video)
                continue
            yield from self._advance(video)

    def _advance(self, video: Video) -> Iterator[_Flight]:
        """Run a video's steps until they wait for an answer; yields what must be decoded."""
        while not video.is_over and len(video.answers) == len(video.asked):
            self._ask_next(video)
            for call in video.asked.values():
                flight = self._find(video, call)
                if flight is not None and call.segment is not None:
                    yield flight
                elif flight is not None:
                    self._words.append(flight)

    def _ask_next(self, video: Video) -> None:
        """Send a video's steps the answers and note what they ask for next."""
        answers = video.answers
        video.asked, video.answers = {}, {}
        try:
            calls = video.steps.send(answers) if video.has_begun else next(video.steps)
            video.has_begun = True
            video.asked = {call.id: call for call in calls}
        except StopIteration as end:
            video.is_over = True
            self._finished.append((video.key, end.value))
        except KinemaError as problem:
            video.is_over = True
            self._finished.append((video.key, problem))

    def _find(self, video: Video, call: Call) -> _Flight | None:
        """A flight for a call that nobody has asked; known answers are filled in."""
        if (known := self._memo.get(call.id)) is not None:
            video.answers[call.id] = Answer.from_dict(known)
            video.known += call.segment is not None
            return None
        if call.id in self._flights:
            self._flights[call.id].waiting.append(video)
            return None
        flight = self._flights[call.id] = _Flight(call, video.source, [video])
        return flight

    def _look(self, flight: _Flight) -> tuple[_Flight, Seen | KinemaError]:
        """Decode, in a thread."""
        try:
            return flight, self._asker.look(flight.source, flight.call)
        except KinemaError as problem:
            return flight, problem

    def _land(self, flight: _Flight, answer: Answer) -> None:
        """An answer is there: the videos that waited go on; they only ask for words from here."""
        del self._flights[flight.call.id]
        for video in flight.waiting:
            video.answers[flight.call.id] = answer
            if flight.call.segment is not None:
                self._on_caption(video.key, flight.call.segment, len(video.asked) - video.known)
            for more in self._advance(video):
                raise AssertionError(f"{more.call.kind} after the captions needs frames")


def read_ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Done], items: Iterable[Item], *, depth: int
) -> Iterator[Done]:
    """``work`` on the next few items in threads; results stay in order."""
    waiting: deque[Future[Done]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
