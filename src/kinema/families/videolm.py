"""Any checkpoint of our own torch architecture, whoever trained it."""

from __future__ import annotations

from dataclasses import replace

from kinema.families.base import Family
from kinema.families.checkpoint import Checkpoint
from kinema.families.templates import TEMPLATES
from kinema.types import FrameSampling

VIDEOLM = Family(
    name="videolm",
    title="VideoLM (any vision tower, connector and language model)",
    example="",
    model_types=("kinema_videolm",),
    takes_features=True,
    ragged_batch_ok=True,
    content="text",
    template=TEMPLATES["vicuna_v1_1"].jinja,
    classes="kinema.models.videolm",
)


def as_trained(family: Family, checkpoint: Checkpoint) -> Family:
    """The family with the sampling that this checkpoint was trained with, where it says so."""
    sampling = checkpoint.config.get("kinema_sampling")
    if not sampling:
        return family
    return replace(family, default_sampling=FrameSampling(**sampling))
