"""Random checkpoints with the sizes of real ones and fewer layers; PYTHONPATH=tests is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers as T

from support import tiny_parts as tiny
from support.checkpoints import make_tokenizer, save_checkpoint
from support.tiny_families import llava_onevision, make_checkpoint

SMALL = "a random LLaVA-OneVision, 512 wide, two layers"


def small_shape(folder: Path) -> Path:
    """A model of the real class that leaves the measuring to what surrounds it."""
    return make_checkpoint("llava-onevision", folder, width=512)


def onevision_shape(folder: Path, layers: int) -> Path:
    """LLaVA-OneVision-0.5B: SigLIP so400m at 384 px, Qwen2 0.5B; ``layers`` of each tower."""

    _, processor, tokenizer = llava_onevision(64, side=384)
    text = tiny.qwen2(tokenizer, 896) | {
        "intermediate_size": 4864,
        "num_hidden_layers": layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 32768,
        "vocab_size": 151936,
    }
    vision = tiny.siglip(1152, 384) | {
        "intermediate_size": 4304,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
    }
    config = T.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return save_checkpoint(
        T.LlavaOnevisionForConditionalGeneration(config), processor, tokenizer, folder
    )


def video_llava_shape(folder: Path, layers: int) -> Path:
    """Video-LLaVA-7B: two CLIP-L/14 at 224 px, LLaMA 7B; ``layers`` of each tower."""

    tokenizer = make_tokenizer({"image_token": "<image>", "video_token": "<video>"})
    text = tiny.llama(tokenizer, 4096) | {
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "vocab_size": 32064,
    }
    vision = tiny.clip(1024, 224) | {
        "intermediate_size": 4096,
        "num_hidden_layers": layers + 1,
        "num_attention_heads": 16,
    }
    config = T.VideoLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    crop: dict[str, Any] = {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
    }
    processor = T.VideoLlavaProcessor(
        image_processor=T.VideoLlavaImageProcessor(**crop),
        video_processor=T.VideoLlavaVideoProcessor(**crop),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return save_checkpoint(
        T.VideoLlavaForConditionalGeneration(config), processor, tokenizer, folder
    )
