"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: native resolution, frames in pairs, times in positions."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import chatml
from kinema.types import FrameSampling

_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_TEMPLATE = chatml(video=_VIDEO, image=_IMAGE)
# What the processors take: two frames a second, 4 to 768 of them.
_SAMPLING = FrameSampling(fps=2.0, min_frames=4, max_frames=768, formula="arange")

QWEN2_VL = Family(
    name="qwen2-vl",
    title="Qwen2-VL",
    example="Qwen/Qwen2-VL-2B-Instruct",
    model_types=("qwen2_vl",),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    default_sampling=_SAMPLING,
    video_placeholder="<|video_pad|>",
    image_placeholder="<|image_pad|>",
    template=_TEMPLATE,
    system="You are a helpful assistant.",
    visual_tokens=tokens.frame_pairs,
)

QWEN2_5_VL = Family(
    name="qwen2.5-vl",
    title="Qwen2.5-VL",
    example="Qwen/Qwen2.5-VL-3B-Instruct",
    model_types=("qwen2_5_vl",),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    default_sampling=_SAMPLING,
    video_placeholder="<|video_pad|>",
    image_placeholder="<|image_pad|>",
    template=_TEMPLATE,
    system="You are a helpful assistant.",
    visual_tokens=tokens.frame_pairs,
)

QWEN3_VL = Family(
    name="qwen3-vl",
    title="Qwen3-VL",
    example="Qwen/Qwen3-VL-4B-Instruct",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
    engines=("hf", "vllm"),
    ragged_batch_ok=True,
    min_frames=2,
    default_sampling=_SAMPLING,
    video_placeholder="<|video_pad|>",
    image_placeholder="<|image_pad|>",
    template=_TEMPLATE,
    visual_tokens=tokens.frame_pairs_of_clip,
)
