"""Settings of small vision towers and language models, in the words of transformers."""

from __future__ import annotations

from typing import Any


def clip(width: int, side: int) -> dict[str, Any]:
    return _tower(width, side) | {"model_type": "clip_vision_model", "projection_dim": width}


def siglip(width: int, side: int, patch: int = 14) -> dict[str, Any]:
    kind = {"model_type": "siglip_vision_model", "vision_use_head": False, "patch_size": patch}
    return _tower(width, side) | kind


def _tower(width: int, side: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 14,
    }


def llama(tokenizer: Any, width: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": width // 4,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def qwen2(tokenizer: Any, width: int) -> dict[str, Any]:
    return llama(tokenizer, width) | {"model_type": "qwen2"}
