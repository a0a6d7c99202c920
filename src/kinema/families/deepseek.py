"""DeepSeek's families: Janus, DeepSeek-VL and DeepSeek-VL2. A video goes as images."""

from dataclasses import replace

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import turns


def _template(*, user: str, assistant: str, image: str) -> str:
    return turns(
        system=("", "\n\n"),
        user=(f"{user}: ", "\n\n"),
        assistant=(f"{assistant}: ", "<｜end▁of▁sentence｜>"),
        ask=f"{assistant}:",
        image=f"{image}\n",
    )


JANUS = Family(
    name="janus",
    title="Janus and Janus-Pro",
    example="deepseek-community/Janus-Pro-1B",
    model_types=("janus",),
    takes_video=False,
    ragged_batch_ok=True,
    image_placeholder="<image_placeholder>",
    template=_template(user="<|User|>", assistant="<|Assistant|>", image="<image_placeholder>"),
    visual_tokens=tokens.fixed_per_frame,
)

DEEPSEEK_VL = replace(
    JANUS,
    name="deepseek-vl",
    title="DeepSeek-VL",
    example="deepseek-community/deepseek-vl-1.3b-chat",
    model_types=("deepseek_vl", "deepseek_vl_hybrid"),
    template=_template(user="User", assistant="Assistant", image="<image_placeholder>"),
)

DEEPSEEK_VL2 = Family(
    name="deepseek-vl2",
    title="DeepSeek-VL2",
    example="deepseek-ai/deepseek-vl2-tiny",
    model_types=("deepseek_vl_v2",),
    engines=("vllm",),
    takes_video=False,
    image_tokens_depend_on_count=True,
    ragged_batch_ok=True,
    template=_template(user="<|User|>", assistant="<|Assistant|>", image="<image>"),
    vllm_arguments={"hf_overrides": {"architectures": ["DeepseekVLV2ForCausalLM"]}},
)
