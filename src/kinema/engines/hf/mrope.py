"""Positions after a clip for Qwen2-VL and Qwen2.5-VL, as the checkpoints were trained.

transformers 5 lets the text after a clip go on at ``start + max(height, width)``, however far the
clip's temporal positions ran. The published scheme, transformers 4.57 and vLLM go on after the
largest position of all three axes. The tokens differ for every clip whose time runs further than
its sides. Delete this file and its one call in ``loading.py`` when transformers does it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
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
    clips = _Clips(self, image_grid_thw, video_grid_thw, second_per_grid_ts)
    positions = input_ids.new_zeros(3, *input_ids.shape)
    offsets = []
    for row, keep in enumerate(real.bool()):
        own = clips.positions(mm_token_type_ids[row][keep].tolist(), input_ids.device)
        positions[:, row, keep] = own
        offsets.append(int(own.max()) + 1 - own.shape[1])
    return positions, torch.tensor(offsets, device=input_ids.device).unsqueeze(1)


class _Clips:
    """Hands out the grids of a batch's images and videos in prompt order."""

    def __init__(self, model: Any, images: Any, videos: Any, seconds: Any) -> None:
        vision = model.config.vision_config
        self._lay = model.get_vision_position_ids
        self._merge = vision.spatial_merge_size
        self._rate: Any = getattr(vision, "tokens_per_second", None)
        self._grids = {_IMAGE: _iterate(images), _VIDEO: _iterate(videos)}
        self._seconds = itertools.repeat(1) if seconds is None else iter(seconds)

    def positions(self, kinds: list[int], device: torch.device) -> torch.Tensor:
        """``int64[3, L]`` for one row, given the kind of each of its tokens."""
        parts: list[torch.Tensor] = []
        start = 0
        for kind, run in itertools.groupby(kinds):
            parts.append(self._run(kind, len(list(run)), start, device))
            start = int(parts[-1].max()) + 1
        return torch.cat(parts, dim=1)

    def _run(self, kind: int, length: int, start: int, device: torch.device) -> torch.Tensor:
        if kind == _TEXT:
            return torch.arange(start, start + length, device=device).expand(3, -1)
        step = 1
        if kind == _VIDEO and self._rate is not None:
            step = self._rate * next(self._seconds)
        grid = next(self._grids[kind])
        laid: torch.Tensor = self._lay(start, grid, 1, self._merge, step, device=device)
        return laid.long()


def _iterate(grids: torch.Tensor | None) -> Iterator[torch.Tensor]:
    return iter(()) if grids is None else iter(grids)
