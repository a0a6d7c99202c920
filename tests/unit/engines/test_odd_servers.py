"""Servers that answer oddly: each way has its class in the failure table, and none a bare error.

``blame`` is the table's column: a request's fault fails one record by name, the engine's stops the
run with its units still to do, the run's stops it at once.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from kinema.engines import EngineSettings
from kinema.engines.openai.problems import without_key
from kinema.errors import (
    AccessRefused,
    EngineUnreachable,
    KinemaError,
    ModelError,
    RequestFailed,
    RequestRefused,
)
from kinema.messages import Ask, Conversation, TextPart
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support.odd_server import (
    OddServer,
    Sent,
    chunk,
    either,
    failing_at,
    message,
    moved,
    openai_error,
    reasoning_model,
    refused,
    stream,
    strict_stream,
    thinking,
)

CALL = [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
TEXT = {"type": "text", "text": "A cat."}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("kinema.engines.openai.client._FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@contextmanager
def chat(answer):
    with OddServer(answer) as server:
        settings = EngineSettings(base_url=server.address, served_model="m")
        with Chat("m", engine="openai", settings=settings) as session:
            yield session, server


ANSWERED = {
    # oddity: what is sent, text, reason to finish, reasoning
    "content is a list": (
        either(
            message([*thinking("Hm. ", "A dog?"), TEXT]),
            stream(chunk(content=[*thinking("Hm. A dog?"), TEXT]), chunk("stop")),
        ),
        ("A cat.", "stop", "Hm. A dog?"),
    ),
    "content is null": (
        either(message(None), stream(chunk(content=None), chunk("stop"))),
        ("", "stop", ""),
    ),
    "all tokens went into reasoning": (
        either(
            message(None, "length", reasoning_content="Hm."),
            stream(chunk(reasoning_content="Hm."), chunk(content=None), chunk("length")),
        ),
        ("", "length", "Hm."),
    ),
    "reasoning under its newer name": (
        either(
            message("A cat.", reasoning="Hm."),
            stream(chunk(reasoning="Hm."), chunk(content="A cat."), chunk("stop")),
        ),
        ("A cat.", "stop", "Hm."),
    ),
    "reasoning in the content": (
        either(
            message("<think>\nHm.</think>\n\nA cat."),
            stream(
                *(chunk(content=c) for c in ("<think>\nHm.</th", "ink>\n\nA", " cat.")),
                chunk("stop"),
            ),
        ),
        ("A cat.", "stop", "Hm."),
    ),
    "a refusal": (
        either(
            message(None, "content_filter", refusal="I can't help."),
            stream(chunk(refusal="I can't "), chunk(refusal="help."), chunk("content_filter")),
        ),
        ("I can't help.", "refusal", ""),
    ),
    "a filter without words": (
        either(
            Sent({"choices": [{"index": 0, "message": None, "finish_reason": "content_filter"}]})
        ),
        ("", "refusal", ""),
    ),
    "error: null": (
        either(
            Sent(message("A cat.").body | {"error": None}),
            stream(chunk(content="A cat.") | {"error": None}, chunk("stop") | {"error": None}),
        ),
        ("A cat.", "stop", ""),
    ),
    "usage with nulls": (
        either(
            Sent(message("A cat.").body | {"usage": {"prompt_tokens": None}}),
            stream(chunk(content="A cat.") | {"usage": None}, chunk("stop")),
        ),
        ("A cat.", "stop", ""),
    ),
    "signs of life": (
        either(
            message("A cat."),
            stream(
                ": OPENROUTER PROCESSING\n\n",
                chunk(content="A"),
                "event: ping\ndata: {}\n\n",
                "data:\n\n",
                chunk(content=" cat."),
                chunk("stop"),
                {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            ),
        ),
        ("A cat.", "stop", ""),
    ),
    "a whole answer where a stream was asked for": (
        either(message("A cat.")),
        ("A cat.", "stop", ""),
    ),
    "a stream where a whole answer was asked for": (
        either(stream(chunk(content="A cat."), chunk("stop"))),
        ("A cat.", "stop", ""),
    ),
    "the whole message in one event": (
        either(message("A cat."), stream(message("A cat.").body)),
        ("A cat.", "stop", ""),
    ),
    "a model that reasons": (reasoning_model, ("A cat.", "stop", "")),
    "no stream_options": (
        lambda body, path: strict_stream(body, path) if body.get("stream") else message("A cat."),
        ("A cat.", "stop", ""),
    ),
    "a redirect": (moved(lambda path: "/v2/chat/completions"), ("A cat.", "stop", "")),
    "a permanent redirect": (
        moved(lambda path: "/v2/chat/completions", 301),
        ("A cat.", "stop", ""),
    ),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("oddity", ANSWERED)
def test_what_there_is_to_read_is_read(oddity, streamed):
    answer, expected = ANSWERED[oddity]
    with chat(answer) as (session, _):
        if streamed:
            *pieces, said = session.stream("What?")
            assert "".join(pieces) == expected[0]
        else:
            said = session.ask("What?")
    assert (said.text, said.completion.finish_reason, said.reasoning) == expected


FAILED = {
    # oddity: what is sent, class, what the sentence says
    "no message": (
        either(
            Sent({"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}),
            stream({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}),
        ),
        (RequestFailed, "holds no message"),
    ),
    "tool calls alone": (
        either(
            message(None, "tool_calls", tool_calls=CALL),
            stream(chunk(tool_calls=CALL), chunk("tool_calls")),
        ),
        (RequestFailed, "called tools"),
    ),
    "an end that is none": (
        either(message("A c", "error"), stream(chunk(content="A c"), chunk("error"))),
        (RequestFailed, "ended the answer: error"),
    ),
    "an error under status 200": (
        either(Sent({"error": {"message": "model is overloaded", "code": 503}})),
        (EngineUnreachable, "model is overloaded"),
    ),
    "an error in letters under status 200": (
        either(Sent({"error": {"message": "the picture is broken", "type": "invalid"}})),
        (RequestRefused, "the picture is broken"),
    ),
    "FastAPI's list": (
        either(
            refused({"detail": [{"loc": ["body", "messages"], "msg": "At most 4 images."}]}, 422)
        ),
        (RequestRefused, "body.messages: At most 4 images."),
    ),
    "no money": (either(openai_error("No credits.", 402)), (AccessRefused, "No credits")),
    "HTML": (
        either(Sent(b"<html>hello</html>", headers={"Content-Type": "text/html"})),
        (ModelError, "not a chat completion"),
    ),
    "no choices": (either(Sent({"choices": []})), (ModelError, "not a chat completion")),
    "a redirect to another host": (
        moved(lambda path: "http://example.com/v1/chat/completions"),
        (ModelError, r"sends on to example\.com"),
    ),
    "a redirect in a circle": (moved(lambda path: path), (ModelError, "again and again")),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("oddity", FAILED)
def test_what_is_no_answer_has_its_class(oddity, streamed):
    answer, (kind, said) = FAILED[oddity]
    with chat(answer) as (session, _), pytest.raises(KinemaError, match=said) as caught:
        list(session.stream("What?")) if streamed else session.ask("What?")
    assert type(caught.value) is kind


CUT = {
    "no reason to finish": ([chunk(content="The man")], EngineUnreachable, "broke off"),
    "llama.cpp's error line": (
        [chunk(content="The man"), 'error: {"code":500,"message":"context shift failed"}\n\n'],
        EngineUnreachable,
        "context shift failed",
    ),
    "an error event": (
        [chunk(content="The man"), {"error": {"message": "too odd", "code": 400}}],
        RequestFailed,
        "too odd",
    ),
    "an event that is no JSON": (
        [chunk(content="The man"), "data: {\n\n"],
        EngineUnreachable,
        "broke off",
    ),
    "an event that is no object": (
        [chunk(content="The man"), "data: 5\n\n"],
        EngineUnreachable,
        "broke off",
    ),
}


@pytest.mark.parametrize("cut", CUT)
def test_a_stream_that_is_cut_is_no_answer(cut):
    lines, kind, said = CUT[cut]
    with (
        chat(either(message("A cat."), Sent(lines))) as (session, _),
        pytest.raises(KinemaError, match=said) as caught,
    ):
        list(session.stream("What?"))
    assert type(caught.value) is kind


def test_what_a_server_does_not_take_is_learned_once_and_told():
    with chat(reasoning_model) as (session, server):
        first = session.ask("What?")
        num_lessons = len(server.bodies) - 1
        second = session.ask("And then?")
    assert num_lessons == 3
    assert len(server.bodies) == num_lessons + 2
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    note = "The server does not take temperature and top_p, and samples in its own way."
    assert first.warnings == second.warnings == (note,)


def test_a_parameter_of_another_value_is_no_lesson():
    said = "temperature must be at most 2, got 5"
    with (
        chat(either(openai_error(said, param="temperature"))) as (session, server),
        pytest.raises(RequestRefused, match=said),
    ):
        session.ask("What?")
    assert len(server.bodies) == 1


@contextmanager
def submitted(answer, concurrency):
    """Asks through a scheduler; gives a function from words to a future."""
    with OddServer(answer) as server:
        model = find_model("m", engine="openai")
        settings = EngineSettings(base_url=server.address, concurrency=concurrency)
        scheduler = model.scheduler(settings)

        def ask(words):
            return scheduler.submit(
                Ask(key=words, conversation=Conversation.asked(TextPart(words)))
            )

        try:
            yield ask
        finally:
            scheduler.close()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_one_request_that_makes_the_server_fail_does_not_end_the_others(concurrency):
    with submitted(failing_at("poison"), concurrency) as ask:
        futures = [ask(w) for w in ("poison 1", "a", "poison 2", "b", "poison 3", "poison 4", "c")]
        outcomes = [f.exception(30) or f.result().completion.text for f in futures]
    kinds = [type(o) if isinstance(o, Exception) else o for o in outcomes]
    failed, cat = RequestFailed, "A cat."
    assert kinds == [failed, cat, failed, cat, failed, failed, cat]


@pytest.mark.parametrize("status", [403, 418, 451])
def test_one_request_that_is_moderated_does_not_end_the_others(status):
    with submitted(failing_at("poison", status), 1) as ask:
        futures = [ask(words) for words in ("a", "poison", "b")]
        outcomes = [f.exception(30) or f.result().completion.text for f in futures]
    assert outcomes[::2] == ["A cat."] * 2
    assert type(outcomes[1]) is RequestRefused
    assert str(status) in str(outcomes[1])


def test_a_key_that_is_taken_away_ends_the_run():
    is_over = []

    def answer(body, path):
        return openai_error("The key was revoked.", 403) if is_over else message("A cat.")

    with submitted(answer, 1) as ask:
        assert ask("a").result(30).completion.text == "A cat."
        is_over.append(True)
        assert type(ask("b").exception(30)) is AccessRefused


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_server_that_fails_at_every_request_is_the_engines_fault(concurrency):
    with submitted(failing_at(""), concurrency) as ask:
        futures = [ask(str(number)) for number in range(6)]
        assert {f.exception(30).blame for f in futures} == {"engine"}


def test_an_answer_that_nobody_foresaw_fails_one_request(monkeypatch):
    def confused(*_):
        raise LookupError("odd")

    with submitted(failing_at("poison"), 2) as ask:
        assert ask("a").result(30).completion.text == "A cat."
        monkeypatch.setattr("kinema.engines.openai.client.completion_of", confused)
        problem = ask("b").exception(30)
        assert (type(problem), "odd" in str(problem)) == (RequestFailed, True)


class _Asked:
    def __init__(self, key):
        self.request = self
        self.headers = {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        ("none", "none of the keys", "none of the keys"),
        ("none", "Bearer none is no key", "Bearer (the key) is no key"),
        ("a", "a model", "a model"),
        ("EMPTY", "the answer is EMPTY", "the answer is EMPTY"),
        ("sk-1", "task-12 of sk-1", "task-12 of sk-1"),
        ("sk-test-1", "key sk-test-1 is over", "key (the key) is over"),
        ("sk-test-1", "risk-test-10 is over", "risk-test-10 is over"),
    ],
)
def test_a_short_key_is_not_cut_out_of_words(key, said, shown):
    assert without_key(said, _Asked(key)) == shown
