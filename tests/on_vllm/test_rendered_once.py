"""What is counted is rendered once, and leaves vLLM's two caches of media as they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("vllm")

import torch

from kinema.engines import EngineSettings
from kinema.engines.scheduler import Scheduler
from kinema.errors import ContextTooLong, OutOfMemory
from kinema.messages import Ask, Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip
from support.driver import ListInbox, answer, generate
from support.elsewhere import make_elsewhere

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
SETTINGS = EngineSettings(device="cpu", dtype="float32", max_context=512)


def _open(name, folder):
    model = find_model(str(make_elsewhere(name, folder)), engine="vllm")
    return model, model.open(SETTINGS)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """(model, engine) of a family whose clips may be of any length."""
    model, engine = _open("qwen2-vl", tmp_path_factory.mktemp("rendered"))
    yield model, engine
    engine.close()


@pytest.fixture
def rendered(opened, monkeypatch):
    """How often each request was rendered, by its id."""
    _, engine = opened
    counts = Counter()
    make = engine._maker.make

    def counted(request):
        counts[request.id] += 1
        return make(request)

    monkeypatch.setattr(engine._maker, "make", counted)
    return counts


def _request(model, frames, name="0", question="why?", params=PARAMS):
    said = Conversation((Message("user", (VideoPart(frames), TextPart(question))),))
    return prepare(
        decode(said, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=params,
        request_id=name,
    )


def _ask(frames, key="0", question="why?", **more):
    said = (VideoPart(frames), TextPart(question))
    return Ask(key=key, conversation=Conversation((Message("user", said),)), **more)


@pytest.fixture
def scheduler(opened):
    """Runs the engine without closing it at the end."""
    model, engine = opened
    made = Scheduler(lambda: Kept(engine), family=model.family, checkpoint=model.checkpoint)
    yield made
    made.close()


class Kept:
    """The engine of the module, which outlives a scheduler."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def close(self):
        pass


def test_a_counted_request_is_rendered_once(opened, rendered):
    model, engine = opened
    request = _request(model, clip(1))
    counted = engine.count_tokens(request)
    assert answer(engine, request).usage.prompt_tokens == counted
    assert rendered == {"0": 1}
    assert answer(engine, request).usage.prompt_tokens == counted
    assert rendered == {"0": 2}


def test_another_request_of_the_same_id_is_rendered_anew(opened, rendered):
    model, engine = opened
    engine.count_tokens(_request(model, clip(1)))
    other = _request(model, clip(1), question="why do you say that?")
    assert answer(engine, other).usage.prompt_tokens == engine.count_tokens(other)
    assert rendered == {"0": 3}


def test_a_clip_that_did_not_fit_runs_in_a_request_that_does(opened, scheduler):
    model, engine = opened
    frames = clip(5)
    wanted = answer(engine, _request(model, frames)).token_ids
    engine.release()
    long = scheduler.submit(_ask(frames, question="why? " * 400, params=PARAMS))
    with pytest.raises(ContextTooLong) as caught:
        long.result()
    assert caught.value.available == 512 < caught.value.needed
    for _ in range(3):  # sent, then read from the engine's caches
        said = scheduler.submit(_ask(frames, params=PARAMS)).result()
        assert said.completion.token_ids == wanted


def test_a_clip_that_was_reduced_to_fit_runs_whole_and_reduced(opened, scheduler):
    model, engine = opened
    frames = clip(6)
    wanted = answer(engine, _request(model, frames)).token_ids
    engine.release()
    question = "why? "
    while engine.count_tokens(_request(model, frames, question=question)) + NEW_TOKENS <= 512:
        question += "so "
    for _ in range(2):
        said = scheduler.submit(_ask(frames, question=question, params=PARAMS, fit=True)).result()
        assert said.note.startswith("reduced to ")
        assert said.completion.usage.prompt_tokens + NEW_TOKENS <= 512
        whole = scheduler.submit(_ask(frames, params=PARAMS)).result()
        assert whole.completion.token_ids == wanted


def test_a_refused_request_does_not_take_its_clip_with_it(opened):
    model, engine = opened
    frames = clip(7)
    wanted = answer(engine, _request(model, frames)).token_ids
    engine.release()
    inbox = ListInbox(engine, [
        _request(model, frames, "long", "why? " * 400), _request(model, frames, "short")
    ])  # fmt: skip
    engine.serve(inbox)
    assert list(inbox.problems) == ["long"]
    assert [c.token_ids for c in inbox.completions] == [wanted]


def test_a_request_with_logprobs_runs_alone(opened):
    model, engine = opened
    plain = [_request(model, clip(i), f"{i}") for i in range(3)]
    floats = _request(model, clip(3), "floats", params=replace(PARAMS, logprobs=1))
    assert engine.pick([*plain, floats], []) == plain
    assert engine.pick([floats, *plain], plain) == []
    assert engine.pick([floats, *plain], []) == [floats]
    assert engine.pick(plain, [floats]) == []
    inbox = ListInbox(engine, [plain[0], floats, *plain[1:]])
    engine.serve(inbox)
    assert len(inbox.completions) == 4
    assert [[r.id for r in taken] for taken in inbox.taken] == [["0", "1", "2"], ["floats"]]


def test_at_most_256_are_in_flight_and_16_begin_in_one_turn(opened):
    model, engine = opened
    many = [_request(model, clip(1), f"{i}") for i in range(300)]
    assert engine.pick(many, []) == many[:16]
    assert engine.pick(many[250:], many[:250]) == many[250:256]
    assert engine.pick(many[256:], many[:256]) == []


@pytest.mark.parametrize("number", [1, 3])
def test_memory_that_runs_out_in_a_step_leaves_nothing_half_done(opened, monkeypatch, number):
    model, engine = opened
    requests = [_request(model, clip(20 + number), "a"), _request(model, clip(40), "b")]
    wanted = {c.request_id: c.token_ids for c in generate(engine, requests)}
    engine.release()
    core = engine._llm.llm_engine.engine_core.engine_core
    run, steps = core.model_executor.execute_model, iter(range(1, 100))

    def fails(*args, **kwargs):
        if next(steps) == number:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(core.model_executor, "execute_model", fails)
        with pytest.raises(OutOfMemory, match="CUDA out of memory"):
            generate(engine, requests)
    assert {c.request_id: c.token_ids for c in generate(engine, requests)} == wanted


def test_clips_of_one_length_at_a_time_where_they_do_not_stack(opened):
    model, engine = opened
    requests = [
        _request(model, clip(i, 4 if i % 2 else 2), f"{i}", f"what about {i}?") for i in range(6)
    ]
    engine._one_length = True
    try:
        inbox = ListInbox(engine, requests)
        engine.serve(inbox)
    finally:
        engine._one_length = False
    assert [[r.id for r in taken] for taken in inbox.taken] == [["0", "2", "4"], ["1", "3", "5"]]
    assert len(inbox.completions) == 6
