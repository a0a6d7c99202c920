"""Families that splice CLIP or SigLIP features between the words: LLaVA and its kin."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import turns
from kinema.types import FrameSampling

_VICUNA = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }} "
    "{% elif message.role == 'user' %}USER: {{ message.content }} "
    "{% else %}ASSISTANT: {{ message.content }}</s>{% endif %}"
    "{% endfor %}ASSISTANT:"
)

# As on the model's page: turns follow each other with a blank, without an end mark.
_PAGE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }} "
    "{% elif message.role == 'user' %}USER: {{ message.content }} "
    "{% else %}ASSISTANT: {{ message.content }} {% endif %}"
    "{% endfor %}ASSISTANT:"
)

_HUB_TOWER_NAMES = (
    (r"^(vision_tower|image_tower|video_tower)\.(?!vision_model)", r"\1.vision_model."),
)

LLAVA = Family(
    name="llava",
    title="LLaVA 1.5",
    example="llava-hf/llava-1.5-7b-hf",
    model_types=("llava",),
    engines=("hf", "vllm"),
    takes_video=False,
    ragged_batch_ok=True,
    content="text",
    template=_VICUNA,
    visual_tokens=tokens.patches_per_image,
    vllm_weight_names=_HUB_TOWER_NAMES,
)

VIDEO_LLAVA = Family(
    name="video-llava",
    title="Video-LLaVA",
    example="LanguageBind/Video-LLaVA-7B-hf",
    model_types=("video_llava",),
    exact_frames=8,
    # The sampling of the model's page on the hub: arange(0, N, N / 8).
    default_sampling=FrameSampling(num_frames=8, formula="arange"),
    content="text",
    template=_PAGE,
    visual_tokens=tokens.clip_with_class,
)

LLAVA_NEXT_VIDEO = Family(
    name="llava-next-video",
    title="LLaVA-NeXT-Video",
    example="llava-hf/LLaVA-NeXT-Video-7B-hf",
    model_types=("llava_next_video",),
    engines=("hf", "vllm"),
    default_sampling=FrameSampling(num_frames=8, formula="arange"),
    content="text",
    template=_VICUNA,
    visual_tokens=tokens.pooled_by_two,
    on_engine={"vllm": {"takes_image": False}},
    vllm_weight_names=_HUB_TOWER_NAMES,
)

LLAVA_ONEVISION = Family(
    name="llava-onevision",
    title="LLaVA-OneVision",
    example="llava-hf/llava-onevision-qwen2-7b-ov-hf",
    model_types=("llava_onevision",),
    engines=("hf", "vllm"),
    default_sampling=FrameSampling(num_frames=8, formula="arange"),
    template=turns(
        system=("<|im_start|>system\n", "<|im_end|>"),
        user=("<|im_start|>user ", "<|im_end|>"),
        assistant=("<|im_start|>assistant\n", "<|im_end|>"),
        ask="<|im_start|>assistant\n",
        video="<video>\n",
        image="<image>\n",
    ),
    visual_tokens=tokens.pooled_and_newline,
    vllm_weight_names=_HUB_TOWER_NAMES,
)
