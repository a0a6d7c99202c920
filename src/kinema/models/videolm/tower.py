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
    layers = config.select_layers
    if config.vision_config.model_type == "timm_wrapper":
        if layers != [-1]:
            raise UsageError(
                f"select_layer is {layers} and a convolutional tower gives its last map only.",
                hint="Set select_layer to -1.",
            )
        seen: Tensor = tower(pixels, do_pooling=False).last_hidden_state  # (T, D, rows, columns)
        return seen.flatten(2).transpose(1, 2).unsqueeze(1)
    places = slice(None)
    if config.select_feature == "cls":
        places = slice(0, 1)
    elif config.select_feature == "patch" and config.has_class_token:
        places = slice(1, None)
    hidden = tower(pixels, output_hidden_states=True).hidden_states
    # Cut before they are stacked: every layer is large.
    states = torch.stack([hidden[layer][:, places] for layer in layers], dim=1)
    final_norm: Any = tower.post_layernorm if config.post_layernorm else nn.Identity()
    normed: Tensor = final_norm(states)
    return normed
