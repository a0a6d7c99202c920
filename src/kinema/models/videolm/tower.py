"""The vision tower: pixels to states of the chosen layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from kinema.errors import UsageError

if TYPE_CHECKING:
    from kinema.models.videolm.config import VideoLMConfig


def build_tower(config: VideoLMConfig) -> nn.Module:
    """A CLIP, SigLIP or timm model with random weights."""
    tower: nn.Module = AutoModel.from_config(config.vision_config)
    return tower


def tower_states(tower: nn.Module, pixels: Tensor, config: VideoLMConfig) -> Tensor:
    """Selected states of the tower: float[T, 3, H, W] to float[T, L, S, D].

    S counts a class token first where ``select_feature`` keeps it; a convolutional map is read
    row by row.
    """
    pixels = pixels.to(next(p.dtype for p in tower.parameters() if p.is_floating_point()))
    if config.vision_config.model_type == "timm_wrapper":
        return _map_states(tower, pixels, config.select_layers)
    hidden = tower(pixels, output_hidden_states=True).hidden_states
    chosen = [_select(hidden[layer], config) for layer in config.select_layers]
    states = torch.stack(chosen, dim=1)
    return _final_norm(tower)(states) if config.post_layernorm else states


def _select(states: Tensor, config: VideoLMConfig) -> Tensor:
    """The wanted ones of float[T, S, D], before layers are stacked: every layer is large."""
    if config.select_feature == "cls":
        return states[:, :1]
    if config.select_feature == "cls_patch" or not config.has_class_token:
        return states
    return states[:, 1:]


def _final_norm(tower: Any) -> nn.Module:
    norm: nn.Module = tower.post_layernorm
    return norm


def _map_states(tower: nn.Module, pixels: Tensor, layers: list[int]) -> Tensor:
    if layers != [-1]:
        raise UsageError(
            f"select_layer is {layers} and a convolutional tower gives its last map only.",
            hint="Set select_layer to -1.",
        )
    feature_map = tower(pixels, do_pooling=False).last_hidden_state  # (T, D, rows, columns)
    return feature_map.flatten(2).transpose(1, 2).unsqueeze(1)  # type: ignore[no-any-return]
