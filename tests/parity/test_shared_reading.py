"""Questions of a batch about one video are answered as they are alone, and it is read once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.engines import EngineSettings
from kinema.engines.hf import engine as hf_engine
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip
from support.tiny_families import HF_FAMILIES

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
ASKED = (
    (1, 4, "what do you see in this video?"),
    (2, 4, "why?"),
    (1, 4, "Is there a rabbit in it, and what does it do?"),
    (2, 4, "Is this funny? Say why."),
    (1, 4, "why?"),
)


def _request(model, name, *parts, params=PARAMS):
    said = decode(Conversation((Message("user", parts),)), model.family)
    return prepare(
        said, family=model.family, checkpoint=model.checkpoint, params=params, request_id=name
    )


def _questions(model, asked=ASKED):
    return [
        _request(model, str(i), VideoPart(clip(seed, length)), TextPart(words))
        for i, (seed, length, words) in enumerate(asked)
    ]


@pytest.fixture
def opened(family_folder, monkeypatch):
    monkeypatch.setattr(hf_engine, "FEWEST_SAVED", 1)
    engines = []

    def open_engine(name, **more):
        model = find_model(str(family_folder(name)), engine="hf")
        settings = EngineSettings(device="cpu", dtype="float32", batch_size=8, **more)
        engines.append(model.open(settings))
        return model, engines[-1]

    yield open_engine
    for engine in engines:
        engine.close()


def _count_media(engine, monkeypatch):
    made = []
    make = engine._maker.make

    def counted(request):
        made.append(request)
        return make(request)

    monkeypatch.setattr(engine._maker, "make", counted)
    return made


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_tokens_equal_those_alone_and_each_video_is_read_once(opened, monkeypatch, name):
    model, engine = opened(name)
    requests = _questions(model)
    alone = {r.id: next(engine.generate([r])) for r in requests}
    engine._conversations.clear()
    made = _count_media(engine, monkeypatch)
    together = {c.request_id: c for c in engine.generate(requests)}
    assert {n: c.token_ids for n, c in together.items()} == {
        n: c.token_ids for n, c in alone.items()
    }
    assert [c.usage for c in together.values()] == [alone[n].usage for n in together]
    assert len(made) == 2


def test_other_requests_of_the_batch_are_answered_too(opened):
    model, engine = opened("llava-onevision")
    requests = [
        *_questions(model),
        _request(model, "image", ImagePart(clip(3, 1)), TextPart("what is it?")),
        _request(model, "text", TextPart("why?")),
        _request(model, "other", VideoPart(clip(5, 6)), TextPart("and this?")),
    ]
    alone = {r.id: next(engine.generate([r])).token_ids for r in requests}
    together = {c.request_id: c.token_ids for c in engine.generate(requests)}
    assert together == alone


def test_clips_of_different_length_share_a_batch(opened):
    model, engine = opened("qwen2.5-vl")
    asked = [(1, 4, "why?"), (2, 8, "who is it?"), (1, 4, "what?"), (2, 8, "Is there a rabbit?")]
    requests = _questions(model, asked)
    alone = {r.id: next(engine.generate([r])).token_ids for r in requests}
    together = {c.request_id: c.token_ids for c in engine.generate(requests)}
    assert together == alone


def test_log_probabilities_are_those_alone(opened):
    model, engine = opened("video-llava")
    params = SamplingParams(max_new_tokens=4, min_new_tokens=4, logprobs=2)
    requests = [
        _request(model, str(i), VideoPart(clip(1)), TextPart(words), params=params)
        for i, words in enumerate(("why?", "what do you see in it?"))
    ]
    alone = {r.id: next(engine.generate([r])).logprobs for r in requests}
    for done in engine.generate(requests):
        for ours, theirs in zip(done.logprobs, alone[done.request_id], strict=True):
            assert ours.token == theirs.token
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_short_clips_are_read_with_their_questions(opened, monkeypatch):
    model, engine = opened("video-llava")
    monkeypatch.setattr(hf_engine, "FEWEST_SAVED", 10_000)
    made = _count_media(engine, monkeypatch)
    requests = _questions(model)
    assert len(list(engine.generate(requests))) == len(requests)
    assert len(made) == len(requests)


def test_a_video_that_is_refused_fails_its_questions_alone(opened):
    model, engine = opened("video-llava")
    bad = [_request(model, f"bad{i}", VideoPart(clip(1)), TextPart("why?")) for i in range(2)]
    broken = [_without_placeholder(request) for request in bad]
    requests = [*broken, *_questions(model)]
    done = {c.request_id: c for c in engine.generate(requests)}
    assert {n for n, c in done.items() if c.error} == {"bad0", "bad1"}


def _without_placeholder(request):
    text = request.prompt.text.replace("<video>", "")
    return replace(request, prompt=replace(request.prompt, text=text))


def test_a_cache_that_cannot_be_cut_is_tried_once(opened, monkeypatch):
    monkeypatch.setattr("kinema.engines.hf.followup._can_be_cut", lambda cache: False)
    model, engine = opened("video-llava")
    made = _count_media(engine, monkeypatch)
    for _ in range(2):
        assert not any(c.error for c in engine.generate(_questions(model)))
    assert len(made) == 2 * len(ASKED) + 1  # the first group was read for nothing
