from __future__ import annotations

import logging
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from kinema.engines import EngineSettings
from kinema.engines.openai import _pause
from kinema.errors import ModelError, ModelNotFound, UsageError
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support import chat_server


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, str(Path(chat_server.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


@pytest.fixture
def engine(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    opened = find_model("known", engine="openai").open(EngineSettings(base_url=url, concurrency=3))
    yield opened
    opened.close()


def _request(*parts, name="0", params=SamplingParams()):
    model = find_model("known", engine="openai")
    said = decode(Conversation((Message("user", parts),)), model.family)
    return prepare(
        said, family=model.family, checkpoint=model.checkpoint, params=params, request_id=name
    )


def _ask(engine, *parts, **params):
    request = _request(*parts, params=SamplingParams(**params))
    (completion,) = engine.generate([request])
    return completion


def test_frames_travel_as_images_behind_their_times(engine, frames):
    parts = (ImagePart(frames[:1]), VideoPart(frames[:2]), TextPart("hello"))
    answer = _ask(engine, *parts)
    assert "3 images" in answer.text
    assert "Frame at 0.0 s: Frame at 1.0 s:" in answer.text
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


def test_a_busy_server_is_asked_again(engine):
    assert _ask(engine, TextPart("busy 2")).text.startswith("busy 2")


def test_a_server_that_stays_busy_is_given_up(engine, monkeypatch):
    monkeypatch.setattr("kinema.engines.openai._FIRST_PAUSE_SECONDS", 0.01)
    answer = _ask(engine, TextPart("busy 99"))
    assert answer.finish_reason == "error"
    assert "503" in answer.error


def test_pauses_double_up_to_a_limit_unless_the_server_names_one():
    assert [_pause(attempt, None) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    asked = httpx.Response(429, headers={"Retry-After": "2.5"})
    assert _pause(4, asked) == 2.5


def test_one_refused_request_does_not_end_the_batch(engine):
    requests = [_request(TextPart(text), name=text) for text in ("refuse", "garbage", "fine")]
    answers = {c.request_id: c for c in engine.generate(requests)}
    assert "the prompt is too long" in answers["refuse"].error
    assert "no chat completion" in answers["garbage"].error
    assert answers["fine"].error is None


def test_requests_run_at_once_up_to_the_limit(engine):
    requests = [_request(TextPart(f"slow {i}"), name=str(i)) for i in range(6)]
    answers = list(engine.generate(requests))
    assert {c.request_id for c in answers} == {str(i) for i in range(6)}
    assert max(int(c.text.split(" | ")[-1].split()[0]) for c in answers) == 3


def test_a_stream_ends_with_the_whole_answer(engine, frames):
    deltas = list(engine.stream(_request(VideoPart(frames), TextPart("hello"))))
    last = deltas[-1].completion
    assert "".join(d.text for d in deltas).strip() == last.text
    assert last.finish_reason == "length"
    assert last.usage.completion_tokens == 3
    assert last.first_token_seconds is not None


def test_a_stream_that_breaks_off_is_an_error(engine):
    with pytest.raises(ModelError, match="broke off"):
        list(engine.stream(_request(TextPart("break"))))


def test_logprobs_are_read(engine):
    answer = _ask(engine, TextPart("hello"), logprobs=0)
    assert [(t.token, t.logprob) for t in answer.logprobs] == [("a", -0.5)]


def test_a_refused_key_is_named_and_never_shown(engine, url, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    caplog.set_level(logging.DEBUG)
    opened = find_model("known", engine="openai").open(EngineSettings(base_url=url))
    answer = _ask(opened, TextPart("hello"))
    opened.close()
    assert "OPENAI_API_KEY" in answer.error
    assert "sk-secret" not in answer.error + caplog.text


def test_a_key_that_the_server_repeats_is_not_shown(engine, caplog):
    caplog.set_level(logging.DEBUG)
    answer = _ask(engine, TextPart("repeat the key"))
    assert "Bearer (the key) is out of money" in answer.error
    assert chat_server.KEY not in answer.error + caplog.text + repr(vars(engine))


def test_an_unknown_model_is_named(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    opened = find_model("unknown", engine="openai").open(EngineSettings(base_url=url))
    with pytest.raises(ModelNotFound, match="no model 'unknown'"):
        list(opened.stream(_request(TextPart("hello"))))
    opened.close()


def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("kinema.engines.openai._FIRST_PAUSE_SECONDS", 0.001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = EngineSettings(base_url=f"http://127.0.0.1:{port}/v1")
    opened = find_model("known", engine="openai").open(settings)
    with pytest.raises(ModelError, match=f"127.0.0.1:{port} does not answer"):
        list(opened.stream(_request(TextPart("hello"))))
    opened.close()


def test_a_missing_address_is_asked_for(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError) as caught:
        find_model("known", engine="openai").open(EngineSettings())
    assert "--base-url" in caught.value.hint


def test_a_conversation_goes_through_chat(url, monkeypatch, frames):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    with Chat("known", engine="openai", settings=EngineSettings(base_url=url)) as session:
        assert "5 images" in session.ask("hello", VideoPart(frames)).text
        assert session.ask("and then?").text.startswith("and then?")
