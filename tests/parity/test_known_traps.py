"""Traps of transformers that were met, each with what keeps kinema out of it.

Others stand where their subject is: positions in test_mrope, weights of 4 bits in
test_quantised_and_adapted, rates in unit/engines/test_clips, weight names in on_vllm.
"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.types import Formula
from kinema.video.sampling import positions
from support.by_hand import clip
from support.driver import answer, generate
from support.tiny_families import HF_FAMILIES

ONE = SamplingParams(max_new_tokens=1, min_new_tokens=1, logprobs=1)


def _request(model, frames, name="0"):
    said = Conversation((Message("user", (VideoPart(frames), TextPart("why?"))),))
    return prepare(
        decode(said, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=ONE,
        request_id=name,
    )


def test_frames_that_transformers_steps_over_are_chosen_before_it(family_engine):
    """Its sampler takes one frame too many from 218 when 22 are wanted, and crashes on it."""
    theirs = Qwen2VLVideoProcessor().sample_frames(
        VideoMetadata(total_num_frames=218, fps=30.0), num_frames=22
    )
    assert int(theirs.max()) == 218, "transformers has mended this; the test may go"
    for formula in get_args(Formula):
        assert positions(218, 22, formula).max() < 218
    model, engine = family_engine("qwen2-vl")
    frames = clip(1, 22)
    completion = answer(engine, _request(model, frames))
    assert completion.usage.completion_tokens == 1


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_pixels_reach_the_model(family_engine, name):
    """A media argument that the model does not know is swallowed; then pixels change nothing."""
    model, engine = family_engine(name)
    requests = [_request(model, clip(seed), str(seed)) for seed in (1, 2)]
    alone = [answer(engine, r).logprobs[0].logprob for r in requests]
    assert alone[0] != alone[1]
    together = {c.request_id: c.logprobs[0].logprob for c in generate(engine, requests)}
    assert [together["1"], together["2"]] == alone  # these never share a batch


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl"])
def test_the_patch_of_positions_is_still_needed(family_engine, family_folder, name):
    _, engine = family_engine(name)
    plain = AutoModelForImageTextToText.from_pretrained(family_folder(name)).base_model
    kinds = torch.tensor([[0, *[2] * 6, 0]])
    asked = {
        "input_ids": torch.zeros_like(kinds),
        "mm_token_type_ids": kinds,
        "video_grid_thw": torch.tensor([[6, 2, 2]]),
        "second_per_grid_ts": torch.tensor([1.0]),
    }
    ours, _ = engine.model.base_model.get_rope_index(**asked)
    theirs, _ = plain.get_rope_index(**asked)
    assert not torch.equal(ours, theirs), "transformers has mended this: delete engines/hf/mrope.py"
