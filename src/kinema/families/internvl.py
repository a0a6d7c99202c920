"""InternVL in transformers' own layout (checkpoints whose names end in -hf)."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import chatml

INTERNVL = Family(
    name="internvl",
    title="InternVL",
    example="OpenGVLab/InternVL3-1B-hf",
    model_types=("internvl",),
    engines=("hf", "vllm"),
    image_placeholder="<IMG_CONTEXT>",
    template=chatml(video="<video>\n", image="<IMG_CONTEXT>\n"),
    visual_tokens=tokens.fixed_per_frame,
)
