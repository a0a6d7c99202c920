"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: native resolution, frames in pairs, times in positions."""

from dataclasses import replace

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import chatml
from kinema.types import FrameSampling

_TEMPLATE = chatml(
    video="<|vision_start|><|video_pad|><|vision_end|>",
    image="<|vision_start|><|image_pad|><|vision_end|>",
)

QWEN2_VL = Family(
    name="qwen2-vl",
    title="Qwen2-VL",
    example="Qwen/Qwen2-VL-2B-Instruct",
    model_types=("qwen2_vl",),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    # What the processors take: two frames a second, 4 to 768 of them.
    default_sampling=FrameSampling(fps=2.0, min_frames=4, max_frames=768, formula="arange"),
    video_placeholder="<|video_pad|>",
    image_placeholder="<|image_pad|>",
    template=_TEMPLATE,
    system="You are a helpful assistant.",
    visual_tokens=tokens.frame_pairs,
)

QWEN2_5_VL = replace(
    QWEN2_VL,
    name="qwen2.5-vl",
    title="Qwen2.5-VL",
    example="Qwen/Qwen2.5-VL-3B-Instruct",
    model_types=("qwen2_5_vl",),
)

QWEN3_VL = replace(
    QWEN2_VL,
    name="qwen3-vl",
    title="Qwen3-VL",
    example="Qwen/Qwen3-VL-4B-Instruct",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    min_frames=2,
    system="",
    visual_tokens=tokens.frame_pairs_of_clip,
)
