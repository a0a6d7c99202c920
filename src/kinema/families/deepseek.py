"""DeepSeek's families: Janus, DeepSeek-VL and DeepSeek-VL2. A video goes as images."""

from kinema.families import tokens
from kinema.families.base import Family
from kinema.families.turns import turns

_END = "<｜end▁of▁sentence｜>"

JANUS = Family(
    name="janus",
    title="Janus and Janus-Pro",
    example="deepseek-community/Janus-Pro-1B",
    model_types=("janus",),
    takes_video=False,
    ragged_batch_ok=True,
    image_placeholder="<image_placeholder>",
    template=turns(
        system=("", "\n\n"),
        user=("<|User|>: ", "\n\n"),
        assistant=("<|Assistant|>: ", _END),
        ask="<|Assistant|>:",
        image="<image_placeholder>\n",
    ),
    visual_tokens=tokens.fixed_per_frame,
)

DEEPSEEK_VL = Family(
    name="deepseek-vl",
    title="DeepSeek-VL",
    example="deepseek-community/deepseek-vl-1.3b-chat",
    model_types=("deepseek_vl", "deepseek_vl_hybrid"),
    takes_video=False,
    ragged_batch_ok=True,
    image_placeholder="<image_placeholder>",
    template=turns(
        system=("", "\n\n"),
        user=("User: ", "\n\n"),
        assistant=("Assistant: ", _END),
        ask="Assistant:",
        image="<image_placeholder>\n",
    ),
    visual_tokens=tokens.fixed_per_frame,
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
    template=turns(
        system=("", "\n\n"),
        user=("<|User|>: ", "\n\n"),
        assistant=("<|Assistant|>: ", _END),
        ask="<|Assistant|>:",
        image="<image>\n",
    ),
    vllm_arguments={"hf_overrides": {"architectures": ["DeepseekVLV2ForCausalLM"]}},
)
