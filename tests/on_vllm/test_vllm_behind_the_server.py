"""The server over real vLLM: callers run together, each told what it is told alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("vllm")

from kinema.engines import EngineSettings
from kinema.tasks.models import find_model
from support.clips import EXAMPLE
from support.elsewhere import make_elsewhere
from support.serving import asked, serving, video

SETTINGS = EngineSettings(device="cpu", dtype="float32", max_context=2048)
# The first mixes clips of different lengths in one batch, the second cannot.
FAMILIES = ["qwen2-vl", "internvl"]


@pytest.fixture(scope="module", params=FAMILIES)
def server(request, tmp_path_factory):
    folder = make_elsewhere(request.param, tmp_path_factory.mktemp(request.param))
    model = find_model(str(folder), engine="vllm")
    media = {"allowed_local_media_path": EXAMPLE.parent}
    # vLLM is opened in the scheduler's thread, which is the only one that uses it.
    opening = lambda: model.open(SETTINGS)  # noqa: E731
    with serving(str(folder), opening, served_model_name="echo", **media) as running:
        yield running


def _bodies():
    for number in range(8):
        clip = video(str(EXAMPLE), num_frames=2 + number % 3)
        parts = [clip] if number % 4 else []
        yield asked(*parts, words=f"question {number}", max_tokens=12, seed=number)


def _texts(answer):
    return [choice.message.content for choice in answer.choices]


def test_callers_run_together_and_hear_what_they_hear_alone(server):
    create = server.client.chat.completions.create
    alone = [_texts(create(**body)) for body in _bodies()]
    most = 0
    with ThreadPoolExecutor(8) as callers:
        waiting = [callers.submit(create, **body) for body in _bodies()]
        while not all(one.done() for one in waiting):
            most = max(most, next(iter(server.service.backends.values())).scheduler.num_running)
        together = [_texts(one.result()) for one in waiting]
    assert together == alone
    assert most > 1


def test_a_stream_says_what_a_whole_answer_says(server):
    body = asked(video(str(EXAMPLE), num_frames=2), max_tokens=12)
    whole = server.client.chat.completions.create(**body)
    chunks = server.client.chat.completions.create(**body, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces).strip() == whole.choices[0].message.content


def test_n_answers_of_one_request_differ(server):
    body = asked(words="Tell me.", temperature=1.5, seed=3, n=4, max_tokens=12)
    first, again = (_texts(server.client.chat.completions.create(**body)) for _ in range(2))
    assert len(set(first)) > 1
    assert again == first


def test_a_caller_who_hangs_up_frees_the_engine(server):
    body = asked(words="Go on and on.", max_tokens=1500, min_tokens=1500, stream=True)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    (backend,) = server.service.backends.values()
    while backend.scheduler.num_running:
        pass
    said = server.client.chat.completions.create(**asked(max_tokens=3))
    assert said.usage.completion_tokens <= 3


def test_without_gradio_the_server_says_how_to_get_the_page(server):
    assert "kinema[page]" in httpx.get(server.url).text
