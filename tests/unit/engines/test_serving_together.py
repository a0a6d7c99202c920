"""Requests of several callers on the transformers engine: together, apart, and given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.engines import EngineSettings, OneByOne, Serves
from kinema.engines.echo import EchoEngine
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import prepare
from kinema.tasks.models import find_model


class Box:
    """An inbox that is filled before, and remembers in which groups it was emptied."""

    def __init__(self, requests):
        self.waiting = list(requests)
        self.groups = []
        self.cancelled = set()

    def take(self, most, *, alike=lambda request: None):
        same = [r for r in self.waiting if alike(r) == alike(self.waiting[0])][:most]
        self.waiting = [r for r in self.waiting if r not in same]
        self.groups += [[r.id for r in same]] if same else []
        return same

    def is_cancelled(self, request_id):
        return request_id in self.cancelled


@pytest.fixture(scope="module")
def opened(video_llava_folder):
    model = find_model(str(video_llava_folder))
    return model, model.open(EngineSettings(device="cpu", keep_conversations=2))


@pytest.fixture
def requests(opened, frames):
    model, _ = opened

    def request(number, **params):
        sampled = replace(frames, pixels=frames.pixels // (number + 1))
        said = Message("user", (VideoPart(sampled), TextPart(f"question {number}")))
        settings = SamplingParams(**{"max_new_tokens": 8, **params})
        checkpoint, family = model.checkpoint, model.family
        return prepare(
            Conversation((said,)),
            family=family,
            checkpoint=checkpoint,
            params=settings,
            request_id=f"r{number}",
        )

    return request


def _served(engine, box):
    texts, done = {}, {}
    for delta in engine.serve(box):
        texts[delta.request_id] = texts.get(delta.request_id, "") + delta.text
        if delta.completion is not None:
            done[delta.request_id] = delta.completion
    return texts, done


def test_requests_that_wait_together_run_together_and_answer_as_alone(opened, requests):
    _, engine = opened
    asked = [requests(i) for i in range(3)]
    alone = {c.request_id: c.token_ids for r in asked for c in generate(engine, [r])}
    box = Box(asked)
    texts, done = _served(engine, box)
    assert box.groups == [["r0", "r1", "r2"]]
    assert {i: c.token_ids for i, c in done.items()} == alone
    assert texts == {i: c.text for i, c in done.items()}


def test_other_parameters_do_not_share_a_batch(opened, requests):
    _, engine = opened
    box = Box([requests(0), requests(1, max_new_tokens=3), requests(2)])
    _, done = _served(engine, box)
    assert box.groups == [["r0", "r2"], ["r1"]]
    assert len(done["r1"].token_ids) <= 3


def test_a_stop_string_ends_one_row_and_is_never_shown(opened, requests):
    _, engine = opened
    free = {c.request_id: c.text for i in range(2) for c in generate(engine, [requests(i)])}
    stop = free["r0"][3:5]
    box = Box([requests(i, stop=(stop,)) for i in range(2)])
    texts, done = _served(engine, box)
    assert texts["r0"] == done["r0"].text == free["r0"].partition(stop)[0].strip()
    assert done["r0"].finish_reason == "stop"


def test_logprobs_come_with_each_row(opened, requests):
    _, engine = opened
    _, done = _served(engine, Box([requests(i, logprobs=2) for i in range(2)]))
    for completion in done.values():
        assert len(completion.logprobs) == len(completion.token_ids)
        assert all(len(token.alternatives) == 2 for token in completion.logprobs)


def test_a_cancelled_row_gets_no_more_and_the_others_finish(opened, requests):
    _, engine = opened
    box = Box([requests(i) for i in range(2)])
    box.cancelled.add("r1")
    texts, done = _served(engine, box)
    assert set(done) == {"r0"}
    assert "r1" not in texts


def test_a_follow_up_alone_goes_on_from_what_was_read(opened, requests):
    model, engine = opened
    first = requests(0)
    _, done = _served(engine, Box([first]))
    said = (
        first.conversation
        + Message("assistant", (TextPart(done["r0"].text),))
        + Message("user", (TextPart("and then?"),))
    )
    again = prepare(
        said,
        family=model.family,
        checkpoint=model.checkpoint,
        params=first.params,
        request_id="again",
    )
    assert engine._conversations.match(again) is not None
    _, followed = _served(engine, Box([again]))
    fresh = model.open(EngineSettings(device="cpu", keep_conversations=0))
    assert followed["again"].token_ids == answer(fresh, again).token_ids


def test_any_engine_serves_one_by_one(requests):
    assert not isinstance(EchoEngine(), Serves)
    box = Box([requests(i) for i in range(2)])
    texts, done = _served(OneByOne(EchoEngine()), box)
    assert box.groups == [["r0"], ["r1"]]
    assert texts == {i: c.text for i, c in done.items()}
