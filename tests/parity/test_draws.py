"""What is drawn is what transformers draws, nobody else's draws change it, and NaN is no answer."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kinema.engines import EngineSettings
from kinema.engines.hf.logits import FirstStepIsFinite
from kinema.errors import BrokenLogits, MissingCapability
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart
from kinema.prompt import prepare
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, ByHand, clip
from support.driver import answer, generate

LENGTH = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
PROMPT = "USER: <image>\nwhy? ASSISTANT:"
RANDOM = {"temperature": 1.3, "top_p": 0.9, "top_k": 50}


def _open(folder, **settings):
    model = find_model(str(folder), engine="hf")
    return model, model.open(EngineSettings(device="cpu", dtype="float32", **settings))


def _request(model, name="0", **params):
    return prepare(
        Conversation((Message("user", (ImagePart(clip(1, 1)), TextPart("why?"))),)),
        family=model.family,
        checkpoint=model.checkpoint,
        params=SamplingParams(**LENGTH, **params),
        request_id=name,
    )


def _theirs(hand, **arguments):
    inputs = hand.inputs(PROMPT, images=[clip(1, 1)])
    output = hand.model.generate(**inputs, **LENGTH, **arguments)
    return output[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.fixture(scope="module")
def llava(llava_folder):
    return _open(llava_folder)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seeded_answer_is_the_one_that_transformers_draws(llava, llava_folder, seed):
    model, engine = llava
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs = _theirs(ByHand(llava_folder), do_sample=True, **RANDOM)
    assert list(answer(engine, _request(model, seed=seed, **RANDOM)).token_ids) == theirs


def test_two_models_in_one_process_draw_apart(llava_folder):
    opened = [_open(llava_folder) for _ in range(2)]

    def said(which, seed):
        model, engine = opened[which]
        return [
            answer(engine, _request(model, seed=seed + i, **RANDOM)).token_ids for i in range(6)
        ]

    alone = [said(0, 10), said(1, 20)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(said, (0, 1), (10, 20))) == alone


def test_answers_leave_the_random_state_of_the_process_alone(llava):
    model, engine = llava
    before = torch.get_rng_state()
    drawn = {answer(engine, _request(model, **RANDOM)).token_ids for _ in range(4)}
    assert len(drawn) > 1
    answer(engine, _request(model, seed=1, **RANDOM))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    first = answer(engine, _request(model, **RANDOM)).token_ids
    torch.manual_seed(0)
    others = {answer(engine, _request(model, **RANDOM)).token_ids for _ in range(4)}
    assert others != {first}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_give_no_numbers_give_no_answer(llava_folder, value):
    model, engine = _open(llava_folder)
    with torch.no_grad():
        engine.model.lm_head.weight[7] = value
    with pytest.raises(BrokenLogits, match="no numbers") as broken:
        answer(engine, _request(model))
    assert "bfloat16" in broken.value.hint
    assert broken.value.blame == "request"


def test_float16_that_overflows_is_told(llava_folder, tmp_path):
    _, engine = _open(llava_folder)
    with torch.no_grad():
        engine.model.lm_head.weight.mul_(1e5)
    engine.model.save_pretrained(tmp_path / "large")
    for file in llava_folder.iterdir():
        if not (tmp_path / "large" / file.name).exists():
            shutil.copy(file, tmp_path / "large")
    large = find_model(str(tmp_path / "large"), engine="hf")
    assert answer(large.open(EngineSettings(device="cpu", dtype="float32")), _request(large)).text
    half = large.open(EngineSettings(device="cpu", dtype="float16"))
    with pytest.raises(BrokenLogits):
        answer(half, _request(large))


def test_forbidden_tokens_are_no_broken_logits_and_later_steps_are_not_looked_at():
    check, ids = FirstStepIsFinite(), torch.zeros(2, 1, dtype=torch.long)
    scores = torch.tensor([[0.0, -torch.inf], [-torch.inf, 1.0]])
    assert check(ids, scores) is scores
    assert check(ids, scores * torch.nan).isnan().any()
    with pytest.raises(BrokenLogits):
        FirstStepIsFinite()(ids, torch.full((2, 2), -torch.inf))


RECOMMENDED = {"no_repeat_ngram_size": 1, "repetition_penalty": 1.7, "min_p": 0.02}


@pytest.fixture
def recommending(llava_folder, tmp_path):
    """A checkpoint whose generation_config.json says how to sample."""

    def make(**fields):
        folder = tmp_path / "recommending"
        shutil.copytree(llava_folder, folder)
        config = folder / "generation_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | fields))
        return folder

    return make


def test_nothing_but_stop_tokens_is_inherited(recommending, llava):
    folder = recommending(**RECOMMENDED, do_sample=True, temperature=2.0, num_beams=4)
    plain = answer(llava[1], _request(llava[0])).token_ids
    model, engine = _open(folder)
    assert answer(engine, _request(model)).token_ids == plain
    assert engine.model.generation_config.eos_token_id == model.checkpoint.config.get(
        "eos_token_id", engine.processor.tokenizer.eos_token_id
    )


def test_what_the_checkpoint_recommends_is_taken_where_it_is_asked_for(recommending):
    folder = recommending(**RECOMMENDED)
    model, engine = _open(folder, generation_config=True)
    theirs = _theirs(ByHand(folder), do_sample=False)
    assert list(answer(engine, _request(model)).token_ids) == theirs
    assert len(set(theirs)) == len(theirs)  # no token is said twice
    said = answer(engine, _request(model, repetition_penalty=1.2)).token_ids
    assert list(said) == _theirs(ByHand(folder), do_sample=False, repetition_penalty=1.2)


def test_a_recommended_temperature_is_drawn_with(recommending):
    folder = recommending(do_sample=True, temperature=1.5, min_p=0.02, top_k=40)
    model, engine = _open(folder, generation_config=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = _theirs(ByHand(folder))
    asked = [_request(model, "1", seed=5), _request(model, "2", seed=6), _request(model, "3")]
    together = {c.request_id: list(c.token_ids) for c in generate(engine, asked)}
    assert together["1"] == theirs
    assert together["2"] != theirs


def test_what_is_not_done_here_is_refused_by_its_name(recommending):
    with pytest.raises(MissingCapability, match="num_beams = 4"):
        _open(recommending(num_beams=4), generation_config=True)
