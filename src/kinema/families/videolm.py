"""Checkpoints of our own torch architecture, whoever trained them; Video-ChatGPT and Video NeVA."""

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

# 100 temporal and 256 spatial tokens, on LLaVA-Lightning.
VIDEO_CHATGPT = Family(
    name="video-chatgpt",
    title="Video-ChatGPT",
    example="video-chatgpt:LLaVA-7B-Lightening-v1-1",
    takes_image=False,
    takes_features=True,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=100, formula="segments"),
    content="text",
    template=TEMPLATES["video-chatgpt_v1"].jinja,
    importer="kinema.models.importers.video_chatgpt:import_video_chatgpt",
    classes="kinema.models.videolm",
)

# Patches of every frame, one after another, in a Megatron language model.
NEVA = Family(
    name="neva",
    title="Video NeVA",
    example="neva:ARCHIVE.nemo",
    takes_features=True,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=8, formula="linspace"),
    content="text",
    template=TEMPLATES["nvgpt"].jinja,
    importer="kinema.models.importers.neva:import_neva",
    classes="kinema.models.videolm",
)


def as_trained(family: Family, checkpoint: Checkpoint) -> Family:
    """The family with the sampling that this checkpoint was trained with, where it says so."""
    sampling = checkpoint.config.get("kinema_sampling")
    if not sampling:
        return family
    return replace(family, default_sampling=FrameSampling(**sampling))
