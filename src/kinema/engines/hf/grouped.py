"""Attention on a CPU for heads that share keys and values, without a copy for each of them.

Where there is a mask, as a follow-up has one, transformers repeats the kept keys and values for
every head that reads them, because kernels of GPUs want that. torch's kernel for CPUs does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "kinema_grouped"
_LEFT_TO_TRANSFORMERS = ("position_bias", "softcap", "cache")


def group_heads(model: Any) -> None:
    """Let the model's decoder, where it runs ``sdpa`` on a CPU, read shared heads in place."""
    decoder = model.get_decoder()
    if decoder.device.type == "cpu" and decoder.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        decoder.set_attn_implementation(_NAME)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """``float[B, H, Q, D]`` queries on ``float[B, G, K, D]`` keys and values to ``[B, Q, H, D]``.

    ``others`` are those of transformers' attention functions.
    """
    would_repeat = query.shape[2] > 1 and key.shape[1] < query.shape[1]
    is_plain = not module.training and all(others.get(n) is None for n in _LEFT_TO_TRANSFORMERS)
    if attention_mask is None or not (would_repeat and is_plain):
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **others
        )
        return result
    scale = others.get("scaling")
    heads = scaled_dot_product_attention(
        query, key, value, attention_mask, scale=scale, enable_gqa=True
    )
    return heads.transpose(1, 2).contiguous(), None
