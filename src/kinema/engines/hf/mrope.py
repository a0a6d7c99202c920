"""Positions after a clip for Qwen2-VL and Qwen2.5-VL, as the checkpoints were trained.

transformers 5 lets the text after a clip go on at ``start + max(height, width)``, however far the
clip's temporal positions ran. The published scheme, transformers 4.57 and vLLM go on after the
largest position of all three axes. The tokens differ for every clip whose time runs further than
its sides. Delete this file and its one call in ``loading.py`` when transformers does it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch

_MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl")
_TEXT, _IMAGE, _VIDEO = 0, 1, 2


def follow_training_positions(model: Any) -> None:
    """Give one loaded model the trained positions; other families are left alone."""
    if model.config.model_type in _MODEL_TYPES:
        base = model.base_model
        base.get_rope_index = MethodType(_get_rope_index, base)


def _get_rope_index(
    self: Any,
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``int64[3, B, L]`` positions and ``int64[B, 1]`` offsets of the text that follows."""
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    vision, device = self.config.vision_config, input_ids.device
    rate = getattr(vision, "tokens_per_second", None)
    # Images and videos of all rows, in prompt order.
    grids = {_IMAGE: iter(_given(image_grid_thw)), _VIDEO: iter(_given(video_grid_thw))}
    seconds = itertools.repeat(1) if second_per_grid_ts is None else iter(second_per_grid_ts)
    positions = input_ids.new_zeros(3, *input_ids.shape)
    offsets = []
    for row, keep in enumerate(real.bool()):
        parts: list[torch.Tensor] = []
        start = 0
        for kind, run in itertools.groupby(mm_token_type_ids[row][keep].tolist()):
            if kind == _TEXT:
                end = start + len(list(run))
                parts.append(torch.arange(start, end, device=device).expand(3, -1))
            else:
                step = rate * next(seconds) if kind == _VIDEO and rate is not None else 1
                laid = self.get_vision_position_ids(
                    start, next(grids[kind]), 1, vision.spatial_merge_size, step, device=device
                )
                parts.append(laid.long())
            start = int(parts[-1].max()) + 1
        positions[:, row, keep] = torch.cat(parts, dim=1)
        offsets.append(start - sum(part.shape[1] for part in parts))
    return positions, torch.tensor(offsets, device=device).unsqueeze(1)


def _given(grids: torch.Tensor | None) -> Iterable[torch.Tensor]:
    return () if grids is None else grids
