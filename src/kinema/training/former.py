"""Flags of Video-ChatGPT's own ``train.py`` that are called otherwise here, or mean nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kinema.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class FormerFlags:
    """Video-ChatGPT's names, taken so that its commands run as they are."""

    version: str | None = None
    """v0 and v1 both mean --conv-mode vicuna_v1_1, as they do there."""
    evaluation_strategy: str | None = None
    """--eval-strategy by its old name."""
    mm_use_vid_start_end: bool | None = None
    """--media-wrap outside; none where it is False."""
    tune_mm_mlp_adapter: bool | None = None
    """--stage projector, with --mm-use-vid-start-end also --tune-media-tokens."""
    freeze_backbone: bool | None = None
    """--stage projector."""
    lazy_preprocess: bool | None = None
    """Not used: samples are always read when they are needed."""
    is_multimodal: bool | None = None
    """Not used: samples with and without media may be mixed."""
    sep_video_conv_front: bool | None = None
    """Not used: a video stands where the data puts it."""
    video_token_len: int | None = None
    """Not used: it follows from tower, pooling and frames."""
    remove_unused_columns: bool | None = None
    """Not used: there are none."""
    cache_dir: str | None = None
    """Not used: KINEMA_HOME names the cache."""
    force_fsdp: bool | None = None
    """Not used: see --fsdp."""


_DEAD = (
    "lazy_preprocess",
    "is_multimodal",
    "sep_video_conv_front",
    "video_token_len",
    "remove_unused_columns",
    "cache_dir",
    "force_fsdp",
)


def with_former(settings: TrainSettings, flags: FormerFlags) -> tuple[TrainSettings, list[str]]:
    """The settings with former names applied, and a note about those that mean nothing."""
    loop, model, stage = settings.loop, settings.model, settings.stage
    if flags.evaluation_strategy is not None:
        chosen: Any = flags.evaluation_strategy
        loop = replace(loop, eval_strategy=chosen)
    if flags.version is not None and model.conv_mode is None:
        named = {"v0": "vicuna_v1_1", "v1": "vicuna_v1_1"}.get(flags.version, flags.version)
        model = replace(model, conv_mode=named)
    if flags.mm_use_vid_start_end is not None:
        model = replace(model, media_wrap="outside" if flags.mm_use_vid_start_end else "none")
    if flags.tune_mm_mlp_adapter or flags.freeze_backbone:
        stage = replace(stage, stage="projector")
    if flags.tune_mm_mlp_adapter and flags.mm_use_vid_start_end:
        stage = replace(stage, tune_media_tokens=True)
    dead = [f"--{name}" for name in _DEAD if getattr(flags, name) is not None]
    notes = [f"{', '.join(dead)}: read and not used, see --help"] if dead else []
    return replace(settings, loop=loop, model=model, stage=stage), notes
