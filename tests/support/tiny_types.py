"""Small random checkpoints of model types that run without a row of their own.

Each has something that the others do not: inputs that go with the tokens (``token_type_ids``, a
cross-attention mask), attention in both directions, sliding windows, linear attention.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as T

from kinema.families import FAMILIES
from support.checkpoints import make_tokenizer, save_checkpoint
from support.tiny_families import qwen3_vl_moe
from support.tiny_parts import llama, siglip

Made = tuple[Any, Any, Any]
"""(model, processor, tokenizer)."""

_SIDE = 28


def _template(image: str) -> str:
    return (
        "{% for message in messages %}{{ message.role | upper }}: {% for part in message.content %}"
        "{{ '" + image + "' if part.type == 'image' else part.text }}{% endfor %} {% endfor %}"
        "ASSISTANT:"
    )


def make_type(name: str, folder: Path, *, width: int = 32) -> Path:
    """Write the tiny checkpoint of a model type, with a chat template."""
    model, processor, tokenizer = TYPES[name](width)
    return save_checkpoint(model, processor, tokenizer, folder)


def gemma3(width: int) -> Made:
    """Sliding windows, and pictures whose tokens hear each other in both directions."""
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = make_tokenizer(named)
    text = llama(tokenizer, width) | {
        "model_type": "gemma3_text",
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": width // 4,
    }
    config = T.Gemma3Config(
        text_config=text,
        vision_config=siglip(width, _SIDE),
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    processor = T.Gemma3Processor(
        image_processor=T.Gemma3ImageProcessor(size={"height": _SIDE, "width": _SIDE}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=_template("<start_of_image>"),
    )
    return T.Gemma3ForConditionalGeneration(config), processor, tokenizer


def paligemma(width: int) -> Made:
    """The whole prompt is read in both directions."""
    tokenizer = make_tokenizer({"image_token": "<image>"})
    images = T.SiglipImageProcessor(size={"height": _SIDE, "width": _SIDE})
    images.image_seq_length = 4
    processor = T.PaliGemmaProcessor(images, tokenizer, chat_template=_template("<image>"))
    text = llama(tokenizer, width) | {"model_type": "gemma"}
    config = T.PaliGemmaConfig(
        text_config=text,
        vision_config=siglip(width, _SIDE) | {"projection_dim": width, "num_image_tokens": 4},
        image_token_index=tokenizer.image_token_id,
        projection_dim=width,
        hidden_size=width,
    )
    return T.PaliGemmaForConditionalGeneration(config), processor, tokenizer


def mllama(width: int) -> Made:
    """Pictures are heard in layers of cross-attention, each word by a mask of its own."""
    named = {"image_token": "<|image|>"}
    tokenizer = make_tokenizer(named, extra=("<|python_tag|>",))
    text = llama(tokenizer, width) | {
        "model_type": "mllama_text_model",
        "num_hidden_layers": 3,
        "cross_attention_layers": [1],
        "pad_token_id": tokenizer.pad_token_id,
    }
    del text["head_dim"]
    vision = {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 4,
        "intermediate_size": 2 * width,
        "vision_output_dim": 2 * width,
        "image_size": _SIDE,
        "intermediate_layers_indices": [1],
    }
    config = T.MllamaConfig(
        text_config=text, vision_config=vision, image_token_index=tokenizer.image_token_id
    )
    processor = T.MllamaProcessor(
        T.MllamaImageProcessor(size={"height": _SIDE, "width": _SIDE}, max_image_tiles=4),
        tokenizer,
        chat_template=_template("<|image|>"),
    )
    return T.MllamaForConditionalGeneration(config), processor, tokenizer


def qwen3_5(width: int) -> Made:
    """Layers of linear attention, whose cache is a sum of all that was read."""
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    tokenizer = make_tokenizer(named, extra=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    eighth = width // 32  # the three axes share half of a head
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_interleaved": True}
    rope |= {"mrope_section": [eighth, eighth, 2 * eighth], "partial_rotary_factor": 1.0}
    text = llama(tokenizer, width) | {
        "model_type": "qwen3_5_text",
        "rope_parameters": rope,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": width // 8,
        "linear_num_value_heads": width // 4,  # 32 for 4-bit kernels, as in the released model
    }
    vision = {
        "depth": 2,
        "hidden_size": width,
        "out_hidden_size": width,
        "intermediate_size": 2 * width,
        "num_position_embeddings": 64,
        "num_heads": 4,
        "patch_size": 16,
    }
    config = T.Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        **{f"{name}_id": getattr(tokenizer, f"{name}_id") for name in named},
    )
    cell = 32 * 32
    grid = {
        "size": {"shortest_edge": cell, "longest_edge": 64 * cell},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    processor = T.Qwen3VLProcessor(
        image_processor=T.Qwen2VLImageProcessor(**grid),
        tokenizer=tokenizer,
        video_processor=T.Qwen3VLVideoProcessor(**grid, do_sample_frames=False),
        chat_template=_template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return T.Qwen3_5ForConditionalGeneration(config), processor, tokenizer


def experts(width: int) -> Made:
    """Weights of experts in one tensor each, which adapters and 4 bits leave alone."""
    model, processor, tokenizer = qwen3_vl_moe(width)
    processor.chat_template = FAMILIES["qwen3-vl"].template
    return model, processor, tokenizer


TYPES: dict[str, Callable[[int], Made]] = {
    "gemma3": gemma3,
    "paligemma": paligemma,
    "mllama": mllama,
    "qwen3_5": qwen3_5,
    "qwen3_vl_moe": experts,
}
