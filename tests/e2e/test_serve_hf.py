"""transformers behind the server: a small Qwen2-VL, asked by OpenAI's own client."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from kinema.engines import EngineSettings
from kinema.tasks.models import find_model
from support.clips import EXAMPLE
from support.serving import asked, serving

SCHEMA = {
    "type": "object",
    "properties": {"thing": {"enum": ["umbrella", "dog"]}, "count": {"type": "integer"}},
    "required": ["thing", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def watched(family_folder):
    """A server over transformers, and how many rows each forward pass had."""
    folder = str(family_folder("qwen2-vl"))
    rows: list[int] = []

    def open_engine():
        engine = find_model(folder).open(EngineSettings(device="cpu", dtype="float32"))
        engine.model.register_forward_hook(
            lambda module, args, output: rows.append(output.logits.shape[0])
        )
        return engine

    with serving(folder, open_engine, served_model_name="random") as server:
        server.service.find("random").open()
        yield server, rows


@pytest.fixture(scope="module")
def ask(watched):
    server = watched[0]
    with EXAMPLE.open("rb") as file:
        stored = server.client.files.create(file=file, purpose="vision")
    video = {"type": "video", "file_id": stored.id, "num_frames": 4}

    def create(words: str, *, look: bool = True, **fields):
        text = {"type": "text", "text": words}
        said = [{"role": "user", "content": [video, text] if look else [text]}]
        return server.client.chat.completions.create(model="random", messages=said, **fields)

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
    whole = ask("What happens in this video?", max_tokens=24).choices[0]
    stop = whole.message.content[8:11]
    cut = ask("What happens in this video?", max_tokens=24, stop=[stop]).choices[0]
    before, found, after = whole.message.content.partition(stop)
    assert len(found) == 3
    assert before
    assert after
    assert cut.message.content == before.strip()
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


def test_answers_follow_a_schema(watched):
    wanted = {"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA}}
    body = asked(response_format=wanted, max_tokens=60) | {"model": "random"}
    create = watched[0].client.chat.completions.create
    whole = create(**body).choices[0].message.content
    chunks = list(create(**body, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole
    value = json.loads(whole)
    assert set(value) == {"thing", "count"}
    assert value["thing"] in ("umbrella", "dog")


def _words(text: str, tokens: int, **more):
    lengths = {"max_tokens": tokens, "min_tokens": tokens}
    return asked(words=text, **lengths, **more) | {"model": "random"}


def test_two_clients_at_once_share_the_batches_of_transformers(watched):
    server, rows = watched
    texts = ["How many dogs are there?", "Is it raining?"]
    alone = [server.post(_words(text, 12)).json()["choices"] for text in texts]
    gate = threading.Event()
    scheduler = server.service.find("random").scheduler
    scheduler.call(lambda engine: gate.wait(60))
    del rows[:]
    with ThreadPoolExecutor(2) as callers:
        together = [callers.submit(server.post, _words(text, 12)) for text in texts]
        while scheduler.num_waiting < 2:
            time.sleep(0.002)
        gate.set()
        assert [one.result().json()["choices"] for one in together] == alone
    assert set(rows) == {2}
    assert len(rows) == 12


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_who_disconnects_frees_the_engine(watched, stream):
    server, rows = watched
    backend = server.service.find("random")
    address = f"{server.url}/v1/chat/completions"
    del rows[:]
    with httpx.Client(timeout=60) as client:
        body = _words("Tell me a long story.", 1500, stream=stream)
        if stream:
            with client.stream("POST", address, json=body) as answer:
                next(line for line in answer.iter_lines() if '"content":"' in line)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(address, json=body, timeout=httpx.Timeout(60, read=1.5))
    give_up_at = time.monotonic() + 60
    while backend.scheduler.num_running and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert backend.scheduler.num_running == 0
    assert 0 < len(rows) < 1400
    assert server.post(_words("Are you there?", 3)).status_code == 200


def test_callers_together_are_told_what_they_are_told_alone(ask):
    questions = ["What happens in this video?", "What comes first?", "And last?"]

    def said(question: str) -> str:
        return ask(question, max_tokens=24).choices[0].message.content

    alone = list(map(said, questions))
    with ThreadPoolExecutor(6) as callers:
        assert list(callers.map(said, questions * 2)) == alone * 2
    assert len(set(alone)) == len(questions)
