from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from kinema.engines import EngineSettings
from kinema.engines.openai.client import pause_seconds
from kinema.engines.scheduler import Scheduler
from kinema.errors import (
    AccessRefused,
    EngineUnreachable,
    ModelError,
    ModelNotFound,
    RequestFailed,
    RequestRefused,
    UsageError,
)
from kinema.messages import (
    Ask,
    Conversation,
    ImagePart,
    Message,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support import chat_server
from support.driver import ListInbox, answer, generate, stream


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, str(Path(chat_server.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


@pytest.fixture
def fresh_url():
    """A server that nobody else asked."""
    command = [sys.executable, str(Path(chat_server.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


def _open(url, monkeypatch, *, model="known", key=chat_server.KEY, **settings):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    return find_model(model, engine="openai").open(EngineSettings(base_url=url, **settings))


def _state(url):
    return httpx.get(url.removesuffix("v1") + "state").json()


@pytest.fixture
def engine(url, monkeypatch):
    opened = _open(url, monkeypatch, concurrency=3)
    yield opened
    opened.close()


@pytest.fixture
def quick(monkeypatch):
    """Short pauses between attempts."""
    monkeypatch.setattr("kinema.engines.openai.client._FIRST_PAUSE_SECONDS", 0.001)


def _request(*parts, name="0", params=SamplingParams()):
    model = find_model("known", engine="openai")
    said = decode(Conversation((Message("user", parts),)), model.family)
    return prepare(
        said, family=model.family, checkpoint=model.checkpoint, params=params, request_id=name
    )


def _requests(*commands):
    return [_request(TextPart(command), name=command) for command in commands]


def _ask(engine, *parts, **params):
    return answer(engine, _request(*parts, params=SamplingParams(**params)))


def test_frames_travel_as_images_behind_their_times(engine, frames):
    parts = (ImagePart(frames[:1]), VideoPart(frames[:2]), TextPart("hello"))
    said = _ask(engine, *parts)
    assert "3 images" in said.text
    assert "Frame at 0.0 s: Frame at 1.0 s:" in said.text
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (7, 3)


def test_a_busy_server_is_asked_again(engine):
    assert _ask(engine, TextPart("busy 2")).text.startswith("busy 2")


def test_a_server_that_names_a_pause_gets_it(engine):
    began = time.perf_counter()
    assert _ask(engine, TextPart("limit 2")).text.startswith("limit 2")
    assert 0.1 <= time.perf_counter() - began < 0.5


@pytest.mark.parametrize(("command", "status"), [("busy 99", "503"), ("fail 5", "500")])
def test_a_server_that_does_not_recover_is_the_engines_fault(engine, quick, command, status):
    with pytest.raises(EngineUnreachable, match=status) as caught:
        _ask(engine, TextPart(command))
    assert caught.value.blame == "engine"
    # Five attempts were made, no more and no less.
    assert _ask(engine, TextPart("fail 4")).text.startswith("fail 4")


def test_pauses_double_up_to_a_limit_unless_the_server_names_one():
    pauses = [pause_seconds(attempt, None) for attempt in range(1, 9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    asked = httpx.Response(429, headers={"Retry-After": "2.5"})
    assert pause_seconds(4, asked) == 2.5


def test_one_refused_request_does_not_end_the_others(engine):
    inbox = ListInbox(engine, _requests("a", "refuse", "b", "large", "misfit", "aborted", "c"))
    engine.serve(inbox)
    assert sorted(c.request_id for c in inbox.completions) == ["a", "b", "c"]
    assert isinstance(inbox.problems.pop("aborted"), RequestFailed)
    assert {type(problem) for problem in inbox.problems.values()} == {RequestRefused}
    assert {command: str(problem) for command, problem in inbox.problems.items()} == {
        "refuse": "The server refused the request (400): the prompt is too long",
        "large": "The server refused the request (413): the body is too large",
        "misfit": "The server refused the request (422): top_k is not known",
    }


def test_what_is_no_chat_completion_is_the_addresss_fault_or_the_answers(url, monkeypatch):
    opened = _open(url, monkeypatch)
    with pytest.raises(ModelError, match="not a chat completion") as caught:
        _ask(opened, TextPart("garbage"))
    assert (caught.value.blame, caught.value.code) == ("run", "model")
    assert "/v1" in caught.value.hint
    _ask(opened, TextPart("hello"))
    with pytest.raises(RequestFailed, match="not a chat completion") as caught:
        _ask(opened, TextPart("garbage"))
    assert caught.value.blame == "request"
    opened.close()


def test_another_status_is_the_addresss_fault(engine):
    with pytest.raises(ModelError, match=r"418.*short and stout") as caught:
        _ask(engine, TextPart("teapot"))
    assert caught.value.blame == "run"


def test_requests_run_at_once_up_to_the_limit(engine):
    answers = generate(engine, _requests(*(f"slow {i}" for i in range(6))))
    assert {c.request_id for c in answers} == {f"slow {i}" for i in range(6)}
    assert max(int(c.text.split(" | ")[-1].split()[0]) for c in answers) == 3


class Arriving(ListInbox):
    """Gets its second half of requests while the first is being answered."""

    def __init__(self, engine, first, later, on_take):
        super().__init__(engine, first)
        self.later, self.on_take = later, on_take

    def take(self, running=()):
        self.on_take(self, running)
        return super().take(running)


def test_later_requests_join_before_the_first_have_ended(fresh_url, monkeypatch):
    opened = _open(fresh_url, monkeypatch, concurrency=4)
    held = _requests("hold 0", "hold 1")

    def arrive(inbox, running):
        if len(running) == 2 and inbox.later:
            inbox.waiting += inbox.later
            inbox.later = []
        if len(inbox.completions) == 18:
            httpx.get(fresh_url.removesuffix("v1") + "release")

    inbox = Arriving(opened, held, _requests(*(f"slow {i}" for i in range(18))), arrive)
    opened.serve(inbox)
    opened.close()
    ended = [c.request_id for c in inbox.completions]
    assert len(ended) == 20
    assert set(ended[18:]) == {"hold 0", "hold 1"}
    assert _state(fresh_url)["most"] == 4


def test_a_stream_ends_with_the_whole_answer(engine, frames):
    *pieces, last = stream(engine, _request(VideoPart(frames), TextPart("hello")))
    assert len(pieces) > 3
    assert "".join(pieces).strip() == last.text
    assert last.finish_reason == "length"
    assert last.usage.completion_tokens == 3
    assert 0 < last.first_token_seconds <= last.seconds


def test_pieces_arrive_in_the_thread_of_the_engine(engine):
    threads = set()

    class Watching(ListInbox):
        def write(self, request_id, text):
            threads.add(threading.get_ident())

    engine.serve(Watching(engine, _requests("one", "two"), streamed=True))
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("command", ["break", "shut"])
def test_a_stream_that_breaks_off_is_an_error(engine, command):
    inbox = ListInbox(engine, _requests(command), streamed=True)
    engine.serve(inbox)
    assert inbox.pieces
    assert inbox.completions == []
    assert isinstance(inbox.problems[command], EngineUnreachable)
    assert "broke off" in str(inbox.problems[command])


def test_an_error_in_a_stream_is_the_requests(engine):
    with pytest.raises(RequestFailed, match="out of memory"):
        list(stream(engine, _request(TextPart("trouble"))))


def test_a_cancelled_stream_is_closed_and_the_engine_goes_on(fresh_url, monkeypatch):
    opened = _open(fresh_url, monkeypatch, concurrency=1)

    class Leaving(ListInbox):
        def write(self, request_id, text):
            super().write(request_id, text)
            self.cancelled |= {"forever"} & {request_id}

    inbox = Leaving(opened, _requests("forever", "next"), streamed=True)
    began = time.perf_counter()
    opened.serve(inbox)
    assert time.perf_counter() - began < 5
    assert [c.request_id for c in inbox.completions] == ["next"]
    assert inbox.problems == {}
    assert _state(fresh_url) == {"now": 0, "most": 1, "left": ["forever"]}
    opened.close()


def test_a_caller_who_leaves_the_scheduler_frees_the_place(fresh_url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    model = find_model("known", engine="openai")
    settings = EngineSettings(base_url=fresh_url, concurrency=1)
    scheduler = Scheduler(
        lambda: model.open(settings), family=model.family, checkpoint=model.checkpoint
    )

    def ask(command):
        said = Message("user", (TextPart(command),))
        return Ask(key=command, conversation=Conversation((said,)))

    begun = threading.Event()
    forever = scheduler.submit(ask("forever"), on_text=lambda _: begun.set())
    after = scheduler.submit(ask("after"))
    assert begun.wait(10)
    assert not after.done()
    forever.cancel()
    assert after.result(10).completion.text.startswith("after")
    scheduler.close()


def test_logprobs_are_read(engine):
    said = _ask(engine, TextPart("hello"), logprobs=0)
    assert [(t.token, t.logprob) for t in said.logprobs] == [("a", -0.5)]


def test_a_refused_key_is_named_and_never_shown(url, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    opened = _open(url, monkeypatch, key="sk-secret")
    with pytest.raises(AccessRefused, match="401") as caught:
        _ask(opened, TextPart("hello"))
    opened.close()
    assert caught.value.blame == "run"
    assert "OPENAI_API_KEY" in caught.value.hint
    assert "sk-secret" not in caught.value.sentence + caplog.text


def test_a_key_that_the_server_repeats_is_not_shown(engine, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RequestRefused, match=r"Bearer \(the key\) is out of money") as caught:
        _ask(engine, TextPart("repeat the key"))
    shown = caught.value.sentence + caplog.text + repr(vars(engine)) + repr(vars(engine._client))
    assert chat_server.KEY not in shown


def test_an_unknown_model_is_named(url, monkeypatch):
    opened = _open(url, monkeypatch, model="unknown")
    for ask in (answer, lambda *asked: list(stream(*asked))):
        with pytest.raises(ModelNotFound, match="no model 'unknown'"):
            ask(opened, _request(TextPart("hello")))
    opened.close()


def test_a_server_that_is_not_there_is_named(monkeypatch, quick):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    opened = _open(f"http://127.0.0.1:{port}/v1", monkeypatch)
    with pytest.raises(EngineUnreachable, match=f"127.0.0.1:{port} does not answer"):
        _ask(opened, TextPart("hello"))
    opened.close()


@pytest.mark.parametrize("given", [None, "localhost:8000/v1"])
def test_an_address_is_asked_for(monkeypatch, given):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError) as caught:
        find_model("known", engine="openai").open(EngineSettings(base_url=given))
    assert "http://localhost:8000/v1" in caught.value.hint


def test_a_conversation_goes_through_chat(url, monkeypatch, frames):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    with Chat("known", engine="openai", settings=EngineSettings(base_url=url)) as session:
        assert "5 images" in session.ask("hello", VideoPart(frames)).text
        assert session.ask("and then?").text.startswith("and then?")
