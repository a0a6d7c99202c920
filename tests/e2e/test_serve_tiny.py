"""The built-in model behind the server, asked by OpenAI's own client."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from support.serving import EXAMPLE, asked, serving
from support.tiny_families import make_checkpoint

SCHEMA = {
    "type": "object",
    "properties": {"thing": {"enum": ["umbrella", "dog"]}, "count": {"type": "integer"}},
    "required": ["thing", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server():
    with serving("tiny") as running:
        yield running


@pytest.fixture(scope="module")
def ask(server):
    with EXAMPLE.open("rb") as file:
        stored = server.client.files.create(file=file, purpose="vision")
    video = {"type": "video", "file_id": stored.id, "num_frames": 4}

    def create(words: str, *, look: bool = True, **fields):
        text = {"type": "text", "text": words}
        said = [{"role": "user", "content": [video, text] if look else [text]}]
        return server.client.chat.completions.create(model="tiny", messages=said, **fields)

    return create


def test_a_seed_repeats_an_answer_and_another_changes_it(ask):
    def said(seed: int) -> list[str]:
        answer = ask("Tell me a story.", look=False, seed=seed, temperature=1.5, n=2, max_tokens=12)
        return [choice.message.content for choice in answer.choices]

    first = said(7)
    assert said(7) == first
    assert said(8) != first
    assert first[0] != first[1]


def test_an_answer_ends_before_a_stop_string(ask):
    whole = ask("What happens in this video?").choices[0]
    cut = ask("What happens in this video?", stop=[" then"]).choices[0]
    assert " then" in whole.message.content
    assert cut.message.content == whole.message.content.partition(" then")[0]
    assert cut.finish_reason == "stop"


def test_the_longest_answer_is_kept_to(ask):
    answer = ask("What happens in this video?", max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_each_token_comes_with_its_probability_and_alternatives(ask):
    answer = ask("Hello!", look=False, max_tokens=5, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-6


def test_a_model_that_has_its_own_sentences_refuses_a_schema(ask):
    with pytest.raises(openai.BadRequestError, match="writes no JSON"):
        ask("What is there?", response_format={"type": "json_object"})


def test_answers_follow_a_schema(tmp_path):
    folder = make_checkpoint("qwen2-vl", tmp_path / "qwen2-vl")
    wanted = {"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA}}
    body = asked(response_format=wanted, max_tokens=60) | {"model": "random"}
    with serving(str(folder), served_model_name="random") as server:
        create = server.client.chat.completions.create
        whole = create(**body).choices[0].message.content
        chunks = list(create(**body, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole
    value = json.loads(whole)
    assert set(value) == {"thing", "count"}
    assert value["thing"] in ("umbrella", "dog")


def test_callers_together_are_told_what_they_are_told_alone(ask):
    questions = ["What happens in this video?", "What comes first?", "And last?"]
    alone = [ask(question).choices[0].message.content for question in questions]
    with ThreadPoolExecutor(6) as callers:
        together = list(callers.map(lambda q: ask(q).choices[0].message.content, questions * 2))
    assert together == alone * 2
