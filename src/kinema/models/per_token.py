"""Which of a processor's outputs go with the tokens of a prompt, and which with its media."""

from __future__ import annotations

import re
from typing import Any

import torch

_OF_MEDIA = re.compile(
    "pixel|patch|grid|image|video|audio|frame|feature|second|tile|aspect_ratio|spatial|num_|sizes"
)
"""Parts of the names that transformers' processors, and ours, give to what they make of media."""


def is_per_token(name: str, value: Any, length: int) -> bool:
    """Whether an input is ``int64[1, L, ...]`` for the prompt's L tokens.

    Names tell nothing more: processors of transformers give a dozen of them (``token_type_ids``,
    ``cross_attention_mask``, ``moe_mm_token_type_ids``), and a new model brings a new one.
    """
    return (
        isinstance(value, torch.Tensor)
        and not value.is_floating_point()
        and value.shape[:2] == (1, length)
        and not is_of_media(name)
    )


def is_of_media(name: str) -> bool:
    """Whether an input is about pictures, videos or sounds: one row a medium, or a part of one."""
    return bool(_OF_MEDIA.search(name))
