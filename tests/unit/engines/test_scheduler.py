"""One thread runs the engine for all callers, and decides what becomes of what it raises."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, wait

import pytest

from kinema.engines import EngineSettings
from kinema.engines.scheduler import Scheduler
from kinema.errors import (
    Busy,
    EngineDied,
    ModelError,
    ModelNotFound,
    OutOfMemory,
    RequestFailed,
    RequestRefused,
)
from kinema.families import FAMILIES, Checkpoint
from kinema.messages import Ask, Conversation, Message, TextPart
from support.faulty import FaultyEngine, faulty_model

LIMIT = 20
"""Seconds that a test waits for what comes at once."""


def ask(words):
    return Ask(key=words, conversation=Conversation((Message("user", (TextPart(words),)),)))


def words_of(requests):
    return [request.conversation.messages[-1].text for request in requests]


class Bench:
    """A scheduler over engines that fail as told, and what was done with them."""

    def __init__(self, before=lambda words: None):
        self.before = before
        self.batches = []
        self.threads = set()
        self.opened = self.closed = self.released = 0
        self.scheduler = faulty_model(self.make).scheduler(EngineSettings())

    def make(self):
        self.opened += 1
        return Noted(self)

    def note(self, what):
        self.threads.add(threading.get_ident())
        setattr(self, what, getattr(self, what) + 1)

    def serve(self, requests):
        self.threads.add(threading.get_ident())
        self.batches.append(words_of(requests))
        self.before(words_of(requests))

    def together(self, *questions, **how):
        """Futures of questions that were all there before the engine began."""
        gate = threading.Event()
        held = self.scheduler.call(lambda engine: gate.wait(LIMIT))
        futures = [self.scheduler.submit(ask(words), **how) for words in questions]
        gate.set()
        assert held.result(LIMIT)
        return futures

    def outcomes(self, *questions):
        futures = self.together(*questions)
        wait(futures, LIMIT)
        return [f.exception(0) or f.result(0).completion.text for f in futures]


class Noted(FaultyEngine):
    def __init__(self, bench):
        super().__init__(bench.serve)
        self.bench = bench

    def release(self):
        self.bench.note("released")

    def close(self):
        self.bench.note("closed")


@pytest.fixture
def bench():
    made = []

    def make(before=lambda words: None):
        made.append(Bench(before))
        return made[-1]

    yield make
    for one in made:
        one.scheduler.close()


def test_questions_that_wait_share_a_batch(bench):
    one = bench()
    assert one.outcomes("a", "b", "c", "d", "e") == ["a", "b", "c", "d", "e"]
    assert one.batches == [["a", "b", "c", "d"], ["e"]]


def test_an_engine_that_cannot_be_opened_fails_every_question_and_is_tried_once():
    calls = []

    def fail():
        calls.append(0)
        raise ModelNotFound("The weights are gone.")

    scheduler = Scheduler(fail, family=FAMILIES["echo"], checkpoint=Checkpoint("echo", None, {}))
    for _ in range(2):
        futures = [scheduler.submit(ask(words)) for words in "abc"]
        assert {type(future.exception(LIMIT)) for future in futures} == {ModelNotFound}
    with pytest.raises(ModelNotFound, match="weights are gone"):
        scheduler.call(lambda engine: engine.name).result(LIMIT)
    scheduler.close()
    assert len(calls) == 1


def test_an_engine_that_died_is_opened_again_and_suspects_run_one_at_a_time(bench):
    deaths = iter([EngineDied("The device is lost.")])

    def die_once(words):
        if problem := next(deaths, None):
            raise problem

    one = bench(die_once)
    assert one.outcomes("a", "b", "c", "d", "e", "f") == ["a", "b", "c", "d", "e", "f"]
    assert one.batches == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"], ["e", "f"]]
    assert (one.opened, one.closed) == (2, 1)


def test_a_question_that_kills_every_engine_is_blamed_once_others_were_answered(bench):
    def die(words):
        if "bad" in words:
            raise EngineDied("The device is lost.")

    one = bench(die)
    first, problem, last = one.outcomes("a", "bad", "b")
    assert (first, last) == ("a", "b")
    assert isinstance(problem, RequestFailed)
    assert [batch for batch in one.batches if "bad" in batch] == [
        ["a", "bad", "b"],
        ["bad"],
        ["bad"],
    ]


def test_an_engine_that_answers_nothing_is_blamed_itself(bench):
    def die(words):
        raise EngineDied("The device is lost.")

    one = bench(die)
    assert [type(problem) for problem in one.outcomes("a", "b")] == [EngineDied, EngineDied]


def test_one_thread_opens_uses_reopens_and_closes_the_engine():
    bench = Bench()
    deaths = iter([EngineDied("The device is lost.")])
    bench.before = lambda words: next(map(_raise, deaths), None)
    opened_in = set()
    make = bench.scheduler._open_engine
    bench.scheduler._open_engine = lambda: opened_in.add(threading.get_ident()) or make()
    assert bench.outcomes("a", "b") == ["a", "b"]
    bench.scheduler.close()
    assert (bench.opened, bench.closed) == (2, 2)
    assert bench.threads == opened_in
    assert len(opened_in) == 1
    assert threading.get_ident() not in opened_in


def _raise(problem):
    raise problem


def test_a_question_whose_caller_leaves_is_not_answered(bench):
    one = bench()
    gate = threading.Event()
    held = one.scheduler.call(lambda engine: gate.wait(LIMIT))
    left, stays = (one.scheduler.submit(ask(words)) for words in ("left", "stays"))
    assert left.cancel()
    gate.set()
    assert stays.result(LIMIT).completion.text == "stays"
    assert held.result(LIMIT)
    assert one.batches == [["stays"]]
    with pytest.raises(CancelledError):
        left.result(0)


def test_a_caller_can_leave_while_its_question_runs(bench):
    running, gate = threading.Event(), threading.Event()

    def hold(words):
        running.set()
        assert gate.wait(LIMIT)

    one = bench(hold)
    futures = one.together("left", "stays")
    assert running.wait(LIMIT)
    assert futures[0].cancel()
    gate.set()
    assert futures[1].result(LIMIT).completion.text == "stays"
    assert one.scheduler.submit(ask("later")).result(LIMIT).completion.text == "later"


def test_pieces_come_in_the_engines_thread_and_add_up_to_the_answer(bench):
    one = bench()
    pieces = []
    hear = lambda text: pieces.append((threading.get_ident(), text))  # noqa: E731
    done = one.scheduler.submit(ask("one two three"), on_text=hear).result(LIMIT)
    assert [text for _, text in pieces] == ["one", " two", " three"]
    assert "".join(text for _, text in pieces) == done.completion.text
    assert {thread for thread, _ in pieces} == one.threads


def test_a_listener_that_fails_ends_its_own_question_alone(bench):
    def fail(text):
        raise RuntimeError("The window is closed.")

    one = bench()
    gate = threading.Event()
    held = one.scheduler.call(lambda engine: gate.wait(LIMIT))
    deaf = one.scheduler.submit(ask("one two"), on_text=fail)
    other = one.scheduler.submit(ask("three"))
    gate.set()
    assert held.result(LIMIT)
    assert other.result(LIMIT).completion.text == "three"
    with pytest.raises(RuntimeError, match="window is closed"):
        deaf.result(LIMIT)
    assert one.batches == [["one two", "three"]]


def test_closing_may_answer_what_waits_first():
    one = Bench()
    futures = one.together("a", "b", "c", "d", "e")
    one.scheduler.close(finish=True)
    assert [f.result(0).completion.text for f in futures] == ["a", "b", "c", "d", "e"]
    assert one.closed == 1
    with pytest.raises(Busy, match="shutting down"):
        one.scheduler.submit(ask("late"))


def test_closing_cancels_what_waits_and_ends_the_thread():
    running, gate = threading.Event(), threading.Event()

    def hold(words):
        running.set()
        assert gate.wait(LIMIT)

    one = Bench(hold)
    futures = one.together("a", "b", "c", "d", "e")
    assert running.wait(LIMIT)
    closing = threading.Thread(target=one.scheduler.close)
    closing.start()
    while not all(future.cancelled() for future in futures):
        assert closing.is_alive()
    gate.set()
    closing.join(LIMIT)
    assert not wait(futures, LIMIT).not_done
    assert not closing.is_alive()
    assert one.batches == [["a", "b", "c", "d"]]
    assert one.closed == 1


def test_a_refusal_of_a_batch_falls_on_the_guilty_one_alone(bench):
    def refuse(words):
        if "bad" in words:
            raise RequestRefused("The model refused the request.")

    one = bench(refuse)
    first, problem, last = one.outcomes("a", "bad", "b")
    assert (first, last) == ("a", "b")
    assert isinstance(problem, RequestRefused)
    assert one.batches == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    assert one.opened == 1


def test_a_batch_that_finds_no_memory_runs_in_halves_and_grows_again(bench):
    def three_at_most(words):
        if len(words) > 3:
            raise OutOfMemory("The device ran out of memory.")

    one = bench(three_at_most)
    names = [f"{i}" for i in range(68)]
    assert one.outcomes(*names) == names
    sizes = [len(batch) for batch in one.batches]
    assert sizes[:2] == [4, 2]
    assert sizes.count(4) == 2  # tried again after some time, and halved again
    assert one.released == 2


def test_a_question_too_large_for_the_device_is_blamed_once_others_were_answered(bench):
    def no_room(words):
        if "large" in words:
            raise OutOfMemory("The device ran out of memory.", hint="Use fewer frames.")

    one = bench(no_room)
    first, problem, last = one.outcomes("a", "large", "b")
    assert (first, last) == ("a", "b")
    assert isinstance(problem, RequestFailed)
    assert problem.hint == "Use fewer frames."


def test_a_device_too_small_for_anything_is_reported_as_such(bench):
    def no_room(words):
        raise OutOfMemory("The device ran out of memory.")

    one = bench(no_room)
    assert [type(problem) for problem in one.outcomes("a", "b")] == [OutOfMemory, OutOfMemory]
    assert one.scheduler.num_waiting == one.scheduler.num_running == 0


def test_an_error_that_nobody_named_becomes_a_model_error(bench):
    def break_down(words):
        if "bad" in words:
            raise KeyError("layer 3")

    one = bench(break_down)
    (problem,) = one.outcomes("bad")
    assert type(problem) is ModelError
    assert str(problem) == "The engine failed. KeyError: 'layer 3'"
    assert isinstance(problem.__cause__, KeyError)
    assert one.outcomes("a") == ["a"]
