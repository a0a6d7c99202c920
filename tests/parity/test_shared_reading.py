"""Questions of a batch about one video are answered as they are alone, and it is read once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinema.engines import EngineSettings
from kinema.engines.hf import engine as hf_engine
from kinema.errors import OutOfMemory, RequestRefused
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip
from support.driver import ListInbox, answer, generate
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
        chosen = {"device": "cpu", "dtype": "float32", "batch_size": 8} | more
        settings = EngineSettings(**chosen)
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
    alone = {r.id: answer(engine, r) for r in requests}
    engine._conversations.clear()
    made = _count_media(engine, monkeypatch)
    together = {c.request_id: c for c in generate(engine, requests)}
    assert {n: c.token_ids for n, c in together.items()} == {
        n: c.token_ids for n, c in alone.items()
    }
    assert [c.usage for c in together.values()] == [alone[n].usage for n in together]
    assert len(made) == 2


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_tokens_are_counted_without_processing_a_video_again(opened, monkeypatch, name):
    model, engine = opened(name)
    requests = _questions(model)
    needed = {r.id: answer(engine, r).usage.prompt_tokens for r in requests}
    engine.release()
    requests = _questions_about_the_same_arrays(model)
    made = _count_media(engine, monkeypatch)
    assert {r.id: engine.count_tokens(r) for r in requests} == needed
    assert len(made) == 2
    done = {c.request_id: c.usage.prompt_tokens for c in generate(engine, requests)}
    assert done == needed
    assert len(made) == 2


def _questions_about_the_same_arrays(model, asked=ASKED):
    clips = {seed: clip(seed, length) for seed, length, _ in ASKED}
    return [
        _request(model, str(i), VideoPart(clips[seed]), TextPart(words))
        for i, (seed, _, words) in enumerate(asked)
    ]


@pytest.mark.parametrize("name", ["qwen2.5-vl", "llava-onevision"])
def test_questions_of_several_batches_read_a_video_once(opened, monkeypatch, name):
    model, engine = opened(name, batch_size=2)
    asked = [ASKED[i] for i in (0, 2, 4, 0, 1, 3)]
    requests = _questions_about_the_same_arrays(model, asked)
    alone = {r.id: answer(engine, r).token_ids for r in requests}
    engine.release()
    calls = []
    tower = getattr(engine.model.model, "visual", None) or engine.model.model.vision_tower
    tower.register_forward_hook(lambda *_: calls.append(1))
    assert {c.request_id: c.token_ids for c in generate(engine, requests)} == alone
    assert len(calls) == 2


def test_a_device_too_small_to_read_a_video_is_reported(opened, monkeypatch):
    model, engine = opened("video-llava")

    def generate_nothing(**_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(engine.model, "generate", generate_nothing)
    inbox = ListInbox(engine, _questions(model))
    with pytest.raises(OutOfMemory):
        engine.serve(inbox)
    assert inbox.completions == []
    assert inbox.problems == {}


def test_other_requests_of_the_batch_are_answered_too(opened):
    model, engine = opened("llava-onevision")
    requests = [
        *_questions(model),
        _request(model, "image", ImagePart(clip(3, 1)), TextPart("what is it?")),
        _request(model, "text", TextPart("why?")),
        _request(model, "other", VideoPart(clip(5, 6)), TextPart("and this?")),
    ]
    alone = {r.id: answer(engine, r).token_ids for r in requests}
    together = {c.request_id: c.token_ids for c in generate(engine, requests)}
    assert together == alone


def test_clips_of_different_length_share_a_batch(opened):
    model, engine = opened("qwen2.5-vl")
    asked = [(1, 4, "why?"), (2, 8, "who is it?"), (1, 4, "what?"), (2, 8, "Is there a rabbit?")]
    requests = _questions(model, asked)
    alone = {r.id: answer(engine, r).token_ids for r in requests}
    together = {c.request_id: c.token_ids for c in generate(engine, requests)}
    assert together == alone


def test_log_probabilities_are_those_alone_to_the_last_digit(opened):
    """Their records hold floats, so they share no batch and no cache that others left."""
    model, engine = opened("video-llava")
    params = SamplingParams(max_new_tokens=4, min_new_tokens=4, logprobs=2)
    requests = [
        _request(model, str(i), VideoPart(clip(1)), TextPart(words), params=params)
        for i, words in enumerate(("why?", "what do you see in it?"))
    ]
    alone = {}
    for request in requests:
        engine.release()
        alone[request.id] = answer(engine, request).logprobs
    inbox = ListInbox(engine, requests)
    engine.serve(inbox)
    assert {done.request_id: done.logprobs for done in inbox.completions} == alone
    assert [len(batch) for batch in inbox.taken] == [1, 1]


def test_short_clips_are_read_with_their_questions(opened, monkeypatch):
    model, engine = opened("video-llava")
    monkeypatch.setattr(hf_engine, "FEWEST_SAVED", 10_000)
    made = _count_media(engine, monkeypatch)
    requests = _questions(model)
    assert len(generate(engine, requests)) == len(requests)
    assert len(made) == len(requests)


def test_a_video_that_is_refused_fails_its_questions_alone(opened):
    model, engine = opened("video-llava")
    bad = [_request(model, f"bad{i}", VideoPart(clip(1)), TextPart("why?")) for i in range(2)]
    broken = [_without_placeholder(request) for request in bad]
    requests = [*broken, *_questions(model)]
    inbox = ListInbox(engine, requests)
    engine.serve(inbox)
    assert set(inbox.problems) == {"bad0", "bad1"}
    assert all(isinstance(problem, RequestRefused) for problem in inbox.problems.values())
    assert {c.request_id for c in inbox.completions} == {str(i) for i in range(len(ASKED))}


def _without_placeholder(request):
    text = request.prompt.text.replace("<video>", "")
    return replace(request, prompt=replace(request.prompt, text=text))


def test_a_cache_that_cannot_be_cut_is_tried_once(opened, monkeypatch):
    monkeypatch.setattr("kinema.engines.hf.followup._can_be_cut", lambda cache: False)
    model, engine = opened("video-llava")
    made = _count_media(engine, monkeypatch)
    for _ in range(2):
        assert len(generate(engine, _questions(model))) == len(ASKED)
    assert len(made) == 2 * len(ASKED) + 1  # the first group was read for nothing
