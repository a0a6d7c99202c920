"""Families that splice CLIP or SigLIP features between the words: LLaVA and its kin."""

from kinema.families.base import Family
from kinema.types import FrameSampling

_VICUNA = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }} "
    "{% elif message.role == 'user' %}USER: {{ message.content }} "
    "{% else %}ASSISTANT: {{ message.content }}</s>{% endif %}"
    "{% endfor %}ASSISTANT:"
)

LLAVA = Family(
    name="llava",
    title="LLaVA 1.5",
    example="llava-hf/llava-1.5-7b-hf",
    model_types=("llava",),
    takes_video=False,
    ragged_batch_ok=True,
    content="text",
    template=_VICUNA,
)

VIDEO_LLAVA = Family(
    name="video-llava",
    title="Video-LLaVA",
    example="LanguageBind/Video-LLaVA-7B-hf",
    model_types=("video_llava",),
    exact_frames=8,
    default_sampling=FrameSampling(num_frames=8, formula="arange"),
    content="text",
    template=_VICUNA,
)
