"""Heads that share keys and values on a CPU: the numbers of transformers, without its copies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations import sdpa_attention

from kinema.engines import EngineSettings
from kinema.engines.hf.grouped import _attention
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from support.by_hand import NEW_TOKENS, clip

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
LAYER = SimpleNamespace(num_key_value_groups=3, training=False, is_causal=True)


def _mask(num_queries, num_keys, padding):
    """``bool[2, 1, Q, K]``: each query sees what is before it; the second row is left padded."""
    seen = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    mask = seen.repeat(2, 1, 1, 1)
    mask[1, :, :, :padding] = False
    return mask


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("num_queries", [1, 7])
def test_numbers_are_those_of_transformers(num_queries, padding):
    noise = torch.Generator().manual_seed(0)
    query = torch.randn(2, 6, num_queries, 16, generator=noise)
    key, value = torch.randn(2, 2, 2, 40, 16, generator=noise)
    given = (LAYER, query, key, value, _mask(num_queries, 40, padding))
    ours, _ = _attention(*given, scaling=0.3)
    theirs, _ = sdpa_attention.sdpa_attention_forward(*given, scaling=0.3)
    torch.testing.assert_close(ours, theirs)


def _refuse(*_):
    raise AssertionError("keys were repeated")


def test_a_follow_up_repeats_no_keys(video_llava_folder, monkeypatch):
    settings = EngineSettings(device="cpu", dtype="float32")
    with Chat(str(video_llava_folder), params=PARAMS, settings=settings) as session:
        session.ask("what do you see?", VideoPart(clip(1)))
        monkeypatch.setattr(sdpa_attention, "repeat_kv", _refuse)
        assert len(session.ask("why?").completion.token_ids) == NEW_TOKENS


def test_another_attention_stays_as_it_was_asked_for(video_llava_folder):
    settings = EngineSettings(device="cpu", dtype="float32", attn="eager")
    with Chat(str(video_llava_folder), params=PARAMS, settings=settings) as session:
        assert session.open().model.get_decoder().config._attn_implementation == "eager"
