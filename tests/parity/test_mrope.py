"""Positions after a clip follow the scheme that Qwen2-VL and Qwen2.5-VL were trained with.

tests/on_vllm holds the tokens against vLLM's own classes; here the positions are spelled out.
"""

from __future__ import annotations

import pytest
import torch

TEXT, VIDEO, IMAGE = 0, 2, 1


def _positions(engine, kinds, mask=None, **grids):
    kinds = torch.tensor([kinds] if isinstance(kinds[0], int) else kinds)
    ids = torch.zeros_like(kinds)
    base = engine.model.base_model
    return base.get_rope_index(ids, mm_token_type_ids=kinds, attention_mask=mask, **grids)


def test_text_goes_on_after_the_last_moment_of_a_clip(family_engine):
    _, engine = family_engine("qwen2-vl")
    kinds = [TEXT] * 3 + [VIDEO] * 6 + [TEXT] * 2  # six moments of one cell each
    grid = torch.tensor([[6, 2, 2]])
    positions, deltas = _positions(engine, kinds, video_grid_thw=grid)
    assert positions[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert positions[1, 0].tolist() == [0, 1, 2, *[3] * 6, 9, 10]
    assert deltas.tolist() == [[0]]


def test_moments_are_as_far_apart_as_their_seconds(family_engine):
    _, engine = family_engine("qwen2.5-vl")  # two positions a second
    kinds = [TEXT] + [VIDEO] * 3 + [TEXT]
    grid, seconds = torch.tensor([[3, 2, 2]]), torch.tensor([4.0])
    positions, deltas = _positions(engine, kinds, video_grid_thw=grid, second_per_grid_ts=seconds)
    assert positions[0, 0].tolist() == [0, 1, 9, 17, 18]
    assert deltas.tolist() == [[14]]


def test_padding_on_the_left_changes_no_position(family_engine):
    _, engine = family_engine("qwen2-vl")
    grid = torch.tensor([[2, 2, 4]])
    alone, delta = _positions(engine, [TEXT, *[VIDEO] * 4, TEXT], video_grid_thw=grid)
    kinds = [TEXT, TEXT, TEXT, *[VIDEO] * 4, TEXT]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    padded, padded_delta = _positions(engine, kinds, mask, video_grid_thw=grid)
    assert torch.equal(padded[:, :, 2:], alone)
    assert torch.equal(padded_delta, delta)


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen2.5-vl"])
def test_images_keep_the_positions_of_transformers(family_engine, family_folder, name):
    from transformers import AutoModelForImageTextToText

    _, engine = family_engine(name)
    plain = AutoModelForImageTextToText.from_pretrained(family_folder(name))
    grid = torch.tensor([[1, 4, 6]])
    kinds = torch.tensor([[TEXT, *[IMAGE] * 6, TEXT, TEXT]])
    ours, our_delta = _positions(engine, kinds.tolist(), image_grid_thw=grid)
    theirs, their_delta = plain.base_model.get_rope_index(
        torch.zeros_like(kinds), mm_token_type_ids=kinds, image_grid_thw=grid
    )
    assert torch.equal(ours, theirs)
    assert torch.equal(our_delta, their_delta)


def test_other_families_are_left_alone(family_engine):
    _, engine = family_engine("qwen3-vl")
    assert "get_rope_index" not in vars(engine.model.base_model)
