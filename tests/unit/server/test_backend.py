"""A model behind the server, on engines that do one thing each: batches, deaths, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import httpx
import pytest

from kinema.engines.echo import EchoEngine
from kinema.errors import Busy, ContextTooLong, EngineDied, ModelNotFound
from kinema.messages import Conversation, Message, SamplingParams, TextPart
from kinema.server.backend import Backend, Question
from kinema.server.errors import error_response
from kinema.tasks.models import find_model
from support.serving import Dripping, asked, scheduler_over, serving


class Deaths:
    """Opens engines that note their threads and batches; the process of some dies."""

    def __init__(self, deaths: int, *, reopens: bool = True) -> None:
        self.deaths = deaths
        self.reopens = reopens
        self.threads: list[tuple[str, int]] = []
        self.batches: list[list[str]] = []

    def __call__(self) -> EchoEngine:
        if self.did("opened") and not self.reopens:
            raise ModelNotFound("The weights are gone.")
        self.note("opened")
        return Mortal(self)

    def note(self, what: str) -> None:
        self.threads.append((what, threading.get_ident()))

    def did(self, what: str) -> int:
        return sum(noted == what for noted, _ in self.threads)


class Mortal(EchoEngine):
    """Takes up to four requests together; dies of those that say die."""

    batch_size = 4

    def __init__(self, deaths: Deaths) -> None:
        super().__init__()
        self.deaths = deaths

    def pick(self, waiting, running):
        return list(waiting[:4])

    def serve(self, inbox):
        while taken := inbox.take():
            self.deaths.note("served")
            self.deaths.batches.append([r.conversation.messages[-1].text for r in taken])
            for request in taken:
                if "die" in request.conversation.messages[-1].text and self.deaths.deaths:
                    self.deaths.deaths -= 1
                    raise EngineDied("The engine's process is gone.")
                self._answer(request, inbox)

    def close(self):
        self.deaths.note("closed")


def _until(holds) -> None:
    give_up_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def _scheduler(server):
    return next(iter(server.service.backends.values())).scheduler


def _together(server, *words: str) -> list[httpx.Response]:
    """Asked in this order, all before the engine looks at the first."""
    gate = threading.Event()
    _scheduler(server).call(lambda engine: gate.wait(20))
    with ThreadPoolExecutor(len(words)) as callers:
        answers = []
        for count, said in enumerate(words, 1):
            answers.append(callers.submit(server.post, asked(words=said)))
            _until(lambda count=count: _scheduler(server).num_waiting >= count)
        gate.set()
        return [answer.result() for answer in answers]


def _said(answer: httpx.Response) -> str:
    return answer.json()["choices"][0]["message"]["content"]


def test_callers_who_wait_together_share_a_batch():
    deaths = Deaths(0)
    with serving(engine=deaths) as server:
        assert [_said(a) for a in _together(server, "one", "two")] == ["one", "two"]
    assert deaths.batches == [["one", "two"]]


def test_n_answers_share_a_batch_and_each_has_a_seed_of_its_own():
    deaths = Deaths(0)
    with serving(engine=deaths) as server:
        answer = server.post(asked(words="hello", n=3, seed=7))
        assert [c["message"]["content"] for c in answer.json()["choices"]] == ["hello"] * 3
    assert deaths.batches == [["hello"] * 3]
    said = Conversation((Message("user", (TextPart("hello"),)),))
    question = Question(said, SamplingParams(seed=7), n=3)
    assert [ask.params.seed for ask in question.asks] == [7, 8, 9]
    assert len({ask.key for ask in question.asks}) == 3


def test_an_engine_that_dies_is_opened_again_and_every_caller_is_answered():
    deaths = Deaths(1)
    with serving(engine=deaths) as server:
        answers = _together(server, "one", "die", "three")
        assert [_said(a) for a in answers] == ["one", "die", "three"]
        assert httpx.get(f"{server.url}/health").status_code == 200
    assert deaths.did("opened") == 2
    assert deaths.batches == [["one", "die", "three"], ["die"], ["three"]]


def test_a_request_that_kills_every_engine_is_refused_by_name_and_the_others_are_answered():
    deaths = Deaths(100)
    with serving(engine=deaths) as server:
        one, die, three = _together(server, "one", "die", "three")
        assert (_said(one), _said(three)) == ("one", "three")
        assert (die.status_code, die.json()["error"]["code"]) == (500, "request_failed")


def test_an_engine_that_dies_of_everything_is_blamed_itself():
    with serving(engine=Deaths(100)) as server:
        answer = server.post(asked(words="die"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_died")
        assert int(answer.headers["Retry-After"]) >= 1


def test_one_thread_opens_uses_reopens_and_closes_the_engine():
    deaths = Deaths(1)
    with serving(engine=deaths) as server:
        server.post(asked(words="die"))
        (thread,) = [t.ident for t in threading.enumerate() if t.name == "kinema-engine"]
    assert [what for what, _ in deaths.threads] == [
        "opened", "served", "closed", "opened", "served", "closed",
    ]  # fmt: skip
    assert {noted for _, noted in deaths.threads} == {thread}
    assert thread != threading.get_ident()


def test_a_server_whose_engine_cannot_be_opened_again_is_not_healthy():
    with serving(engine=Deaths(100, reopens=False)) as server:
        assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
        answer = server.post(asked(words="die"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "model_not_found")
        health = httpx.get(f"{server.url}/health")
        assert (health.status_code, health.json()) == (
            503, {"status": "broken", "models": ["echo"]},
        )  # fmt: skip
        assert server.post(asked()).json()["error"]["code"] == "model_not_found"


class LostDevice(EchoEngine):
    """A GPU after an error: every call, also one that gives memory back, fails with it."""

    def serve(self, inbox):
        inbox.take()
        raise EngineDied("The device failed: CUDA error: device-side assert triggered")

    def close(self):
        raise RuntimeError("CUDA error: device-side assert triggered")

    release = close


def test_a_device_that_stays_lost_ends_the_readiness_and_nobody_waits_for_ever():
    opened = []

    def open_engine():
        opened.append(1)
        if len(opened) > 1:
            raise EngineDied("The device fails: CUDA error: device-side assert triggered")
        return LostDevice()

    with serving(engine=open_engine) as server:
        for _ in range(2):
            answer = server.post(asked())
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_died")
        assert httpx.get(f"{server.url}/health").status_code == 503
        assert len(opened) == 2


def test_an_error_that_is_not_ours_hinders_the_opening_once_and_for_all():
    opened = []

    def open_engine():
        opened.append(1)
        raise RuntimeError("a secret of the loader\nand a page of it")

    with serving(engine=open_engine) as server:
        for _ in range(2):
            answer = server.post(asked())
            assert answer.status_code == 500
            assert "secret" not in answer.text
        assert "a secret of the loader" in str(_scheduler(server).problem)
    assert len(opened) == 1


class FailsUntaken(EchoEngine):
    """Fails before it takes anything."""

    def serve(self, inbox):
        raise EngineDied("The engine's process is gone.")


def test_an_engine_that_takes_nothing_ends_the_wait_of_its_callers():
    with serving(engine=FailsUntaken()) as server:
        answers = _together(server, "one", "two")
        assert [a.json()["error"]["code"] for a in answers] == ["engine_died"] * 2


def _backend(engine) -> Backend:
    return Backend(find_model("echo"), scheduler_over(lambda: engine))


def _question(words: str, **more) -> Question:
    said = Conversation((Message("user", (TextPart(words),)),))
    return Question(said, SamplingParams(), **more)


def test_closing_the_iterator_cancels_what_is_not_finished():
    engine = Dripping()
    backend = _backend(engine)

    async def leave_early() -> str:
        engine.permits.release(1)
        async with aclosing(backend.answer(_question("a b c", n=2), streamed=True)) as pieces:
            return (await anext(pieces)).text

    assert asyncio.run(leave_early()) == "a"
    _until(lambda: len(engine.stopped) == 1)
    _until(lambda: backend.scheduler.num_waiting + backend.scheduler.num_running == 0)
    backend.close()


def test_pieces_of_n_answers_add_up_to_them():
    backend = _backend(EchoEngine())

    async def listen():
        texts, whole = ["", ""], ["", ""]
        async for piece in backend.answer(_question("a b c", n=2), streamed=True):
            texts[piece.index] += piece.text
            if piece.answered is not None:
                whole[piece.index] = piece.answered.completion.text
        return texts, whole

    assert asyncio.run(listen()) == (["a b c"] * 2, ["a b c"] * 2)
    backend.close()


def test_what_does_not_fit_is_raised_as_it_is():
    backend = _backend(EchoEngine(context_length=10))

    async def listen():
        return [piece async for piece in backend.answer(_question("a b c"))]

    with pytest.raises(ContextTooLong) as caught:
        asyncio.run(listen())
    assert caught.value.available == 10
    backend.close()


def test_a_scheduler_that_is_closed_under_a_caller_says_so():
    engine = Dripping()
    backend = _backend(engine)

    async def listen():
        asyncio.get_running_loop().call_later(0.1, backend.scheduler.close)
        return [piece async for piece in backend.answer(_question("a b c"))]

    with pytest.raises(Busy, match="shutting down") as caught:
        asyncio.run(listen())
    assert error_response(caught.value).headers["Retry-After"] == "10"
    with pytest.raises(Busy):
        asyncio.run(listen())
