"""Model families: what each one is, how to recognise it, how to speak to it."""

from __future__ import annotations

from kinema.errors import ModelError
from kinema.families.base import DEFAULT_SAMPLING, Family
from kinema.families.checkpoint import Checkpoint, read_checkpoint
from kinema.families.deepseek import DEEPSEEK_VL, DEEPSEEK_VL2, JANUS
from kinema.families.generic import ECHO, GENERIC, REMOTE, SPOTTER
from kinema.families.internvl import INTERNVL
from kinema.families.llava import LLAVA, LLAVA_NEXT_VIDEO, LLAVA_ONEVISION, VIDEO_LLAVA
from kinema.families.lwm import LWM
from kinema.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from kinema.families.smolvlm import SMOLVLM
from kinema.families.videollama3 import VIDEOLLAMA3
from kinema.families.videolm import NEVA, VIDEO_CHATGPT, VIDEOLM, as_trained
from kinema.lazy import Named

__all__ = [
    "DEFAULT_SAMPLING",
    "FAMILIES",
    "Checkpoint",
    "Family",
    "add_family",
    "as_trained",
    "read_checkpoint",
    "recognise",
]

_ROWS = (
    SPOTTER,
    QWEN3_VL,
    QWEN2_5_VL,
    QWEN2_VL,
    SMOLVLM,
    INTERNVL,
    VIDEOLLAMA3,
    LLAVA_ONEVISION,
    LLAVA_NEXT_VIDEO,
    VIDEO_LLAVA,
    LLAVA,
    JANUS,
    DEEPSEEK_VL,
    DEEPSEEK_VL2,
    VIDEO_CHATGPT,
    NEVA,
    VIDEOLM,
    LWM,
    GENERIC,
    REMOTE,
    ECHO,
)
FAMILIES = Named("model family", {f.name: f for f in _ROWS})
"""Every family by name, those worth picking first at the top."""

_BY_MODEL_TYPE = {t: family for family in FAMILIES.values() for t in family.model_types}


def add_family(family: Family) -> None:
    """A row more, from outside of the package; one of the same name or model type is replaced."""
    FAMILIES[family.name] = family
    _BY_MODEL_TYPE.update(dict.fromkeys(family.model_types, family))


def recognise(checkpoint: Checkpoint) -> Family:
    """The family that a checkpoint belongs to, by what it says itself or its ``model_type``.

    Raises:
        ModelError: it is no model that reads pictures, as far as its files tell.
    """
    if family := FAMILIES.get(checkpoint.config.get("kinema_family", "")):
        return family
    model_type = checkpoint.config.get("model_type", "")
    if family := _BY_MODEL_TYPE.get(model_type):
        return family
    if "vision_config" in checkpoint.config and checkpoint.chat_template:
        return GENERIC
    raise ModelError(
        f"{checkpoint.name} (model_type {model_type!r}) does not read pictures.",
        hint="Pick a checkpoint of one of the families that `kinema models` lists.",
    )
