"""A small random checkpoint of every family, in the classes of transformers.

``width`` is the hidden size; vLLM's CPU attention and 4-bit kernels want 128.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as T

from kinema.families import FAMILIES
from support.checkpoints import (
    make_llava,
    make_llava_next,
    make_tokenizer,
    make_video_llava,
    save_checkpoint,
)
from support.tiny_parts import clip, llama, qwen2, siglip

Made = tuple[Any, Any, Any]
"""(model, processor, tokenizer)."""

_CHAT_ENDS = ("<|im_start|>", "<|im_end|>")
_IMAGE_VIDEO = {"image_token": "<image>", "video_token": "<video>"}
_PADS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}


def make_checkpoint(name: str, folder: Path, *, width: int = 32, template: bool = True) -> Path:
    """Write the tiny checkpoint called ``name``, with its family's template as its own."""
    if name in _WRITERS:
        return _WRITERS[name](folder, width=width)
    model, processor, tokenizer = MAKERS[name](width)
    if template:
        processor.chat_template = _family_of(name).template
    return save_checkpoint(model, processor, tokenizer, folder)


def _family_of(name: str) -> Any:
    return FAMILIES["deepseek-vl" if name == "deepseek-vl-hybrid" else name]


def llava_next_video(width: int, side: int = 56) -> Made:
    tokenizer = make_tokenizer(_IMAGE_VIDEO)
    pinpoints = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    config = T.LlavaNextVideoConfig(
        vision_config=clip(width, side),
        text_config=llama(tokenizer, width),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=pinpoints,
        spatial_pool_mode="average",
        spatial_pool_stride=2,
    )
    crop = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor = T.LlavaNextVideoProcessor(
        video_processor=T.LlavaNextVideoVideoProcessor(**crop),
        image_processor=T.LlavaNextImageProcessor(**crop, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return T.LlavaNextVideoForConditionalGeneration(config), processor, tokenizer


def llava_onevision(width: int, side: int = 56) -> Made:
    tokenizer = make_tokenizer(_IMAGE_VIDEO, extra=_CHAT_ENDS, eos="<|im_end|>")
    pinpoints = [[side, side], [side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    config = T.LlavaOnevisionConfig(
        vision_config=siglip(width, side),
        text_config=qwen2(tokenizer, width),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )
    size = {"height": side, "width": side}
    processor = T.LlavaOnevisionProcessor(
        image_processor=T.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=T.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(side // 14) ** 2,
        vision_feature_select_strategy="full",
    )
    return T.LlavaOnevisionForConditionalGeneration(config), processor, tokenizer


def qwen2_vl(width: int) -> Made:
    vision = {"depth": 2, "embed_dim": width, "hidden_size": width, "mlp_ratio": 2}
    return _qwen(width, 14, "Qwen2VL", "Qwen2VL", vision)


def qwen2_5_vl(width: int) -> Made:
    vision = {
        "depth": 2,
        "hidden_size": width,
        "out_hidden_size": width,
        "intermediate_size": 2 * width,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    return _qwen(width, 14, "Qwen2_5_VL", "Qwen2VL", vision)


def qwen3_vl(width: int) -> Made:
    vision = {
        "depth": 3,
        "hidden_size": width,
        "out_hidden_size": width,
        "intermediate_size": 2 * width,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    return _qwen(width, 16, "Qwen3VL", "Qwen3VL", vision)


def qwen3_vl_moe(width: int) -> Made:
    """Qwen3-VL with four experts, of which each token asks two."""
    vision = {
        "depth": 3,
        "hidden_size": width,
        "out_hidden_size": width,
        "intermediate_size": 2 * width,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": width}
    return _qwen(width, 16, "Qwen3VLMoe", "Qwen3VL", vision, **experts)


def _qwen(
    width: int, patch: int, classes: str, video: str, vision: dict[str, Any], **more: Any
) -> Made:
    marks = {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    tokenizer = make_tokenizer(_PADS | marks, extra=_CHAT_ENDS, eos="<|im_end|>")
    eighth = width // 4 // 8  # the three axes share half of a head
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    rope["mrope_section"] = [eighth, eighth, 2 * eighth]
    if classes.startswith("Qwen3VL"):
        rope["mrope_interleaved"] = True
    text = llama(tokenizer, width) | {"rope_parameters": rope} | more
    del text["model_type"]
    names = ("image_token", "video_token", "vision_start_token", "vision_end_token")
    config = getattr(T, classes + "Config")(
        text_config=text,
        vision_config=vision | {"num_heads": 4, "patch_size": patch},
        **{f"{name}_id": getattr(tokenizer, f"{name}_id") for name in names},
    )
    cell = (2 * patch) ** 2
    grid = {
        "size": {"shortest_edge": cell, "longest_edge": 64 * cell},
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    half = [0.5] * 3
    # vLLM normalises videos with the image side's numbers; real Qwen3-VL files agree on both.
    norm = {"image_mean": half, "image_std": half} if video == "Qwen3VL" else {}
    processor = getattr(T, classes.removesuffix("Moe") + "Processor")(
        image_processor=T.Qwen2VLImageProcessor(**grid, **norm),
        tokenizer=tokenizer,
        video_processor=getattr(T, video + "VideoProcessor")(
            **grid, **norm, cap_pixels_per_frame=False, do_sample_frames=False
        ),
    )
    return getattr(T, classes + "ForConditionalGeneration")(config), processor, tokenizer


def smolvlm(width: int, side: int = 32) -> Made:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    named = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tokenizer = make_tokenizer(named, extra=("<|im_start|>", *tiles), eos="<end_of_utterance>")
    vision = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 8,
    }
    config = T.SmolVLMConfig(
        vision_config=vision,
        text_config=llama(tokenizer, width),
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
    )
    sizes = {"size": {"longest_edge": 2 * side}, "max_image_size": {"longest_edge": side}}
    processor = T.SmolVLMProcessor(
        image_processor=T.SmolVLMImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=T.SmolVLMVideoProcessor(
            **sizes, num_frames=8, fps=1, do_sample_frames=False
        ),
        image_seq_len=(side // 8) ** 2 // 4,
    )
    return T.SmolVLMForConditionalGeneration(config), processor, tokenizer


def internvl(width: int, side: int = 56) -> Made:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = make_tokenizer(named, extra=_CHAT_ENDS, eos="<|im_end|>")
    vision = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": [side, side],
        "patch_size": [14, 14],
    }
    length = (side // 14) ** 2 // 4
    config = T.InternVLConfig(
        vision_config=vision,
        text_config=qwen2(tokenizer, width),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=length,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    size = {"height": side, "width": side}
    processor = T.InternVLProcessor(
        image_processor=T.GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        video_processor=T.InternVLVideoProcessor(size=size),
        image_seq_length=length,
    )
    return T.InternVLForConditionalGeneration(config), processor, tokenizer


def videollama3(width: int) -> Made:
    tokenizer = make_tokenizer(_PADS, extra=_CHAT_ENDS, eos="<|im_end|>")
    vision = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "patch_size": 14,
    }
    config = T.VideoLlama3Config(
        vision_config=vision,
        text_config=qwen2(tokenizer, width),
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    cell = 28 * 28
    processor = T.VideoLlama3Processor(
        image_processor=T.VideoLlama3ImageProcessor(
            size={"shortest_edge": cell, "longest_edge": 64 * cell}, patch_size=14, merge_size=1
        ),
        tokenizer=tokenizer,
        video_processor=T.VideoLlama3VideoProcessor(
            size={"shortest_edge": cell, "longest_edge": 512 * cell},
            patch_size=14,
            merge_size=2,
            use_token_compression=True,
        ),
    )
    return T.VideoLlama3ForConditionalGeneration(config), processor, tokenizer


def janus(width: int, side: int = 32) -> Made:
    named = {
        "image_token": "<image_placeholder>",
        "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = make_tokenizer(named, extra=("<|User|>", "<|Assistant|>"))
    patches = (side // 16) ** 2
    vision = {
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 16,
        "mlp_ratio": 2.0,
        "projection_dim": width,
        "num_image_tokens": patches,
        "depth": 2,
    }
    vq = {
        "embed_dim": 8,
        "num_embeddings": 16,
        "latent_channels": 32,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "projection_dim": width,
        "image_token_embed_dim": width,
        "num_hidden_layers": 2,
    }
    config = T.JanusConfig(
        text_config=llama(tokenizer, width),
        vision_config=vision,
        vq_config=vq,
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    processor = T.JanusProcessor(
        image_processor=T.JanusImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokenizer,
        num_image_tokens=patches,
        use_default_system_prompt=False,
    )
    return T.JanusForConditionalGeneration(config), processor, tokenizer


def deepseek_vl(width: int, side: int = 32) -> Made:
    tokenizer, shared = _deepseek(width, side)
    processor = T.DeepseekVLProcessor(
        image_processor=T.DeepseekVLImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokenizer,
        num_image_tokens=(side // 16) ** 2,
    )
    return T.DeepseekVLForConditionalGeneration(T.DeepseekVLConfig(**shared)), processor, tokenizer


def deepseek_vl_hybrid(width: int, side: int = 32) -> Made:
    tokenizer, shared = _deepseek(width, side)
    sam = {
        "model_type": "sam_vision_model",
        "hidden_size": width,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "global_attn_indexes": [1],
        "window_size": 4,
        "mlp_ratio": 2.0,
    }
    config = T.DeepseekVLHybridConfig(**shared, high_res_vision_config=sam)
    processor = T.DeepseekVLHybridProcessor(
        image_processor=T.DeepseekVLHybridImageProcessor(
            size={"height": side, "width": side}, high_res_size={"height": 64, "width": 64}
        ),
        tokenizer=tokenizer,
        num_image_tokens=(side // 16) ** 2,
    )
    return T.DeepseekVLHybridForConditionalGeneration(config), processor, tokenizer


def _deepseek(width: int, side: int) -> tuple[Any, dict[str, Any]]:
    tokenizer = make_tokenizer({"image_token": "<image_placeholder>"})
    return tokenizer, {
        "text_config": llama(tokenizer, width),
        "vision_config": siglip(width, side, patch=16),
        "image_token_id": tokenizer.image_token_id,
        "tie_word_embeddings": False,
    }


MAKERS: dict[str, Callable[[int], Made]] = {
    "llava-next-video": llava_next_video,
    "llava-onevision": llava_onevision,
    "qwen2-vl": qwen2_vl,
    "qwen2.5-vl": qwen2_5_vl,
    "qwen3-vl": qwen3_vl,
    "smolvlm": smolvlm,
    "internvl": internvl,
    "videollama3": videollama3,
    "janus": janus,
    "deepseek-vl": deepseek_vl,
    "deepseek-vl-hybrid": deepseek_vl_hybrid,
}
_WRITERS = {"llava": make_llava, "video-llava": make_video_llava, "generic": make_llava_next}
HF_FAMILIES = (*_WRITERS, *MAKERS)
