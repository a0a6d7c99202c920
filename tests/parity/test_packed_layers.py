"""Layers that oneDNN laid out give the products, the weights and the answers of plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from kinema.engines import EngineSettings
from kinema.engines.hf import packing
from kinema.engines.hf.packing import DirectLinear, PackedLinear
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from support.by_hand import clip
from support.videolm import TEXT

PARAMS = SamplingParams(max_new_tokens=8, min_new_tokens=8)


@pytest.mark.parametrize("layer", [PackedLinear, DirectLinear])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 2, 20, 600])
def test_products_are_those_of_the_plain_layer(layer, bias, rows):
    plain = nn.Linear(96, 160, bias=bias)
    packed = layer(plain)
    x = torch.randn(1, rows, 96, generator=torch.Generator().manual_seed(0))
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


def test_a_head_goes_on_sharing_its_weights(monkeypatch):
    monkeypatch.setattr(packing, "_FEWEST_WEIGHTS", 0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=262, tie_word_embeddings=True, **TEXT)).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = model(ids).logits
        packing.pack_linears(model)
        torch.testing.assert_close(model(ids).logits, before)
    assert isinstance(model.lm_head, DirectLinear)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert isinstance(model.model.layers[0].mlp.up_proj, PackedLinear)


def _talk(folder, **settings):
    """Token ids of three answers, the packed layers, and the weights."""
    chosen = EngineSettings(device="cpu", **settings)
    with Chat(str(folder), params=PARAMS, settings=chosen) as session:
        said = [session.ask("why?", VideoPart(clip(1))), *map(session.ask, ("who?", "when?"))]
        model = session.open().model
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
