"""Positions are those of transformers in float32, whatever the number format of the weights."""

from __future__ import annotations

import pytest
import torch

from kinema.engines import EngineSettings
from kinema.engines.hf.inputs import placed
from kinema.families import FAMILIES
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import ByHand, long_clip, positions_of
from support.driver import answer
from support.tiny_families import HF_FAMILIES

SECONDS = (10, 600, 10_800)
PARAMS = SamplingParams(max_new_tokens=1)
NUM_FRAMES = 48


def _clip(family, seconds):
    return long_clip(seconds, num_frames=family.exact_frames or NUM_FRAMES)


def _request(model, clip):
    said = Conversation((Message("user", (VideoPart(clip), TextPart("why?"))),))
    return prepare(
        decode(said, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
    )


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_positions_do_not_depend_on_the_number_format(family_folder, name):
    model = find_model(str(family_folder(name)), engine="hf")
    hand = ByHand(family_folder(name))
    engine = model.open(EngineSettings(device="cpu", dtype="bfloat16", keep_conversations=0))
    for seconds in SECONDS:
        clip = _clip(model.family, seconds)
        request = _request(model, clip)
        ours = positions_of(engine.model, lambda one=request: answer(engine, one))
        images = [m.frames for m in request.media if m.kind == "image"]
        videos = [m.frames for m in request.media if m.kind == "video"]
        inputs = hand.inputs(request.prompt.text, images=images, videos=videos)
        theirs = positions_of(
            hand.model, lambda given=inputs: hand.model.generate(**given, max_new_tokens=1)
        )
        assert torch.equal(ours, theirs), seconds
    engine.close()


def test_moments_of_three_hours_stand_as_far_apart_as_their_seconds(family_folder):
    folder = family_folder("qwen2.5-vl")
    model = find_model(str(folder), engine="hf")
    engine = model.open(EngineSettings(device="cpu", dtype="bfloat16"))
    request = _request(model, _clip(FAMILIES["qwen2.5-vl"], 10_800))
    positions = positions_of(engine.model, lambda: answer(engine, request))
    # 24 pairs of frames, 450 seconds apart, and two positions a second.
    steps = positions[-3, 0].unique().diff()
    assert steps[steps > 1].tolist() == [900] * 23
    engine.close()


def test_only_what_encoders_read_takes_the_format_of_the_weights():
    given = {
        "pixel_values_videos": torch.ones(1),
        "high_res_pixel_values": torch.ones(1),
        "input_features": torch.ones(1),
        "second_per_grid_ts": torch.tensor([18.75]),
        "timestamps": torch.tensor([1234.5]),
        "input_ids": torch.tensor([[1]]),
        "sizes": [3],
    }
    found = placed(given, torch.device("cpu"), torch.bfloat16)
    of_weights = {name for name, v in found.items() if getattr(v, "dtype", 0) == torch.bfloat16}
    assert of_weights == {"pixel_values_videos", "high_res_pixel_values", "input_features"}
    assert found["timestamps"].item() == 1234.5
    assert found["sizes"] == [3]
