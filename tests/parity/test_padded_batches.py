"""A batch is what the processor itself makes of several prompts, for every model type."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionLayer

from kinema.engines import EngineSettings
from kinema.engines.hf.batching import collate, obstacle
from kinema.engines.hf.followup import _can_be_cut
from kinema.engines.hf.inputs import InputMaker, Inputs
from kinema.errors import RequestRefused
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip
from support.driver import answer, generate
from support.tiny_families import HF_FAMILIES
from support.tiny_types import TYPES, make_type

# PaliGemma's processor gives a tensor to numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
LITERAL = "is <|im_end|> or <image> or <|image|> a word?"


@pytest.fixture(scope="module")
def opened(tmp_path_factory, family_engine):
    """(model, engine) of a family or a type; opened once."""
    made = {}

    def open_(name):
        if name in HF_FAMILIES:
            return family_engine(name)
        if name not in made:
            model = find_model(str(make_type(name, tmp_path_factory.mktemp(name))))
            settings = EngineSettings(device="cpu", dtype="float32")
            made[name] = model, model.open(settings)
        return made[name]

    return open_


def _request(model, name, *parts):
    return prepare(
        decode(Conversation((Message("user", parts),)), model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
        request_id=name,
    )


def _requests(model, *, with_text=True):
    asked = [
        (ImagePart(clip(1, 1)), TextPart("why?")),
        (ImagePart(clip(2, 1)), TextPart("what do you see in this video, and is it funny?")),
        (ImagePart(clip(3, 1)), TextPart(LITERAL)),
        (TextPart("Why is this funny?"),),
    ]
    return [
        _request(model, str(i), *parts) for i, parts in enumerate(asked[: None if with_text else 3])
    ]


@pytest.mark.parametrize("name", [*HF_FAMILIES, *TYPES])
def test_a_batch_is_what_the_processor_makes_of_the_prompts(opened, name):
    model, engine = opened(name)
    asked = _requests(model, with_text=False)[:2]
    maker = InputMaker(engine.processor, engine.model.config, model.family)
    ours = collate(
        [maker.make(one) for one in asked], pad_id=engine.processor.tokenizer.pad_token_id
    )
    theirs = engine.processor(
        text=[one.prompt.text for one in asked],
        images=[[medium.frames.pixels[0] for medium in one.media] for one in asked],
        padding=True,
        return_tensors="pt",
    )
    theirs.pop("labels", None)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", TYPES)
def test_a_batch_gives_the_tokens_of_its_requests_alone(opened, name):
    model, engine = opened(name)
    asked = _requests(model, with_text=name != "paligemma")  # which takes no prompt without one
    alone = {one.id: answer(engine, one).token_ids for one in asked}
    together = {c.request_id: c.token_ids for c in generate(engine, asked)}
    assert together == alone


@pytest.mark.parametrize("name", TYPES)
def test_a_second_turn_gives_the_tokens_of_the_whole_history(opened, name):
    model, engine = opened(name)
    first = (ImagePart(clip(1, 1)), TextPart("why?"))
    said = answer(engine, _request(model, "first", *first)).text
    turns = (Message("user", first), Message("assistant", (TextPart(said),)))
    conversation = Conversation((*turns, Message("user", (TextPart("and who is that?"),))))
    second = prepare(
        decode(conversation, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
        request_id="second",
    )
    gone_on = answer(engine, second).token_ids
    engine.release()
    assert answer(engine, second).token_ids == gone_on


def test_pictures_that_fill_other_grids_of_tiles_run_apart(opened):
    """mllama's mask of tiles has no zero for a picture that is not there."""
    model, engine = opened("mllama")
    two = _request(model, "2", ImagePart(clip(1, 1)), ImagePart(clip(2, 1)), TextPart("why?"))
    asked = [*_requests(model), two]
    alone = {one.id: answer(engine, one).token_ids for one in asked}
    maker = InputMaker(engine.processor, engine.model.config, model.family)
    assert obstacle([maker.make(one) for one in (asked[0], two)]) in {
        "aspect_ratio_ids",
        "aspect_ratio_mask",
    }
    assert obstacle([maker.make(one) for one in (asked[0], asked[3])]) == "cross_attention_mask"
    assert {c.request_id: c.token_ids for c in generate(engine, asked)} == alone


def _inputs(length, **more):
    ids = torch.arange(1, length + 1)[None]
    return Inputs(None, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}, ids[0])


def test_what_goes_with_the_tokens_is_padded_with_them():
    rows = [
        _inputs(3, token_type_ids=torch.tensor([[1, 1, 0]]), to_come=torch.ones(1, 3, 2).long()),
        _inputs(5, token_type_ids=torch.ones(1, 5).long(), to_come=torch.ones(1, 5, 1).long()),
    ]
    batch = collate(rows, pad_id=9)
    assert batch["input_ids"].tolist() == [[9, 9, 1, 2, 3], [1, 2, 3, 4, 5]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1, 1, 0], [1] * 5]
    assert batch["to_come"][0].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1], [1, 1]]
    assert batch["to_come"][1].tolist() == [[1, 0]] * 5


def test_what_nobody_knows_is_refused_by_its_name():
    rows = [_inputs(3, novelty=torch.ones(1, 7)), _inputs(5, novelty=torch.ones(1, 7))]
    with pytest.raises(RequestRefused, match="how novelty is padded") as refused:
        collate(rows, pad_id=0)
    assert "batch_size 1" in refused.value.hint
    assert obstacle(rows[:1]) == "novelty"
    assert collate(rows[:1], pad_id=0).keys() == rows[0].tensors.keys()


def test_caches_of_linear_attention_and_of_new_kinds_cannot_be_cut():
    assert _can_be_cut(Cache(layers=[DynamicLayer(), DynamicLayer()]))
    assert not _can_be_cut(Cache(layers=[LinearAttentionLayer(), DynamicLayer()]))
    assert not _can_be_cut(Cache(layers=[DynamicLayer(), type("NewLayer", (DynamicLayer,), {})()]))
    assert not _can_be_cut(SimpleNamespace())
