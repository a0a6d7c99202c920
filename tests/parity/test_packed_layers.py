"""Layers that oneDNN laid out give the products, the weights and the answers of plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.engines import EngineSettings
from kinema.engines.hf import packing
from kinema.engines.hf.packing import PackedLinear
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from support.by_hand import clip

PARAMS = SamplingParams(max_new_tokens=8, min_new_tokens=8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 20, 600])
def test_products_are_those_of_the_plain_layer(bias, rows):
    plain = nn.Linear(96, 160, bias=bias)
    packed = PackedLinear(plain)
    x = torch.randn(2, rows, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x))


def test_weights_come_out_as_they_went_in():
    plain = nn.Linear(96, 160)
    saved = nn.Sequential(PackedLinear(plain)).state_dict()
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        "0.weight": (160, 96),
        "0.bias": (160,),
    }
    assert torch.equal(saved["0.weight"], plain.weight)
    assert saved["0.weight"].layout == torch.strided


def _talk(folder, **settings):
    """Token ids of three answers, the packed layers, and the weights."""
    chosen = EngineSettings(device="cpu", **settings)
    with Chat(str(folder), params=PARAMS, settings=chosen) as session:
        said = [session.ask("why?", VideoPart(clip(1))), *map(session.ask, ("who?", "when?"))]
        model = session._engine.model
        packed = [n for n, m in model.named_modules() if isinstance(m, PackedLinear)]
        return [s.completion.token_ids for s in said], packed, model.state_dict()


@pytest.mark.parametrize("name", ["video-llava", "llava-onevision", "qwen2.5-vl", "janus"])
def test_answers_and_saved_weights_stay_the_same(family_folder, monkeypatch, name):
    folder = family_folder(name)
    plain, none, weights = _talk(folder, dtype="float32")
    monkeypatch.setattr(packing, "_FEWEST_WEIGHTS", 0)
    ours, packed, saved = _talk(folder, dtype="float32")
    assert ours == plain
    assert packed
    assert not none
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[name], weights[name]) for name in weights)


def test_other_formats_stay_as_they_are(family_folder, monkeypatch):
    monkeypatch.setattr(packing, "_FEWEST_WEIGHTS", 0)
    _, packed, _ = _talk(family_folder("llava-onevision"), dtype="bfloat16")
    assert not packed
