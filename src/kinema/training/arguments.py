"""From our settings to transformers' TrainingArguments."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from kinema.errors import UnknownName, UsageError
from kinema.lazy import require_packages
from kinema.training.settings import LoopSettings

_OWN = (
    "warmup_ratio",
    "gradient_checkpointing",
    "resume_from_checkpoint",
    "arguments",
    "fsdp_config",
    "report_to",
    "tf32",
)
"""Fields that are written otherwise there."""
_PACKAGES = ("tensorboard", "wandb", "deepspeed")


def training_arguments(settings: LoopSettings) -> TrainingArguments:
    """The arguments of a run.

    Raises:
        UsageError: transformers refuses a value.
        UnknownName: ``arguments`` names a field that does not exist.
        MissingPackage: a logger or DeepSpeed is asked for and not installed.
    """
    for name in (*settings.report_to, *(["deepspeed"] if settings.deepspeed else [])):
        if name in _PACKAGES:
            require_packages(f"Training with {name}", [name])
    known = {f.name for f in fields(TrainingArguments)}
    for name in settings.arguments:
        if name not in known:
            raise UnknownName("training argument", name, known)
    try:
        return TrainingArguments(**_values(settings) | settings.arguments)
    except (ValueError, TypeError) as problem:
        sentence = " ".join(str(problem).split())
        raise UsageError(
            f"transformers refuses these settings: {sentence}", hint="See kinema train --help."
        ) from problem


def _values(settings: LoopSettings) -> dict[str, Any]:
    values = {name: value for name, value in asdict(settings).items() if name not in _OWN}
    return values | {
        "output_dir": str(settings.output_dir),
        "warmup_steps": settings.warmup_ratio or settings.warmup_steps,
        "activation_checkpointing": settings.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        # transformers takes bf16 for a GPU's where nobody says that there is none.
        "use_cpu": settings.use_cpu or not torch.accelerator.is_available(),
        "tf32": True if settings.tf32 and torch.cuda.is_available() else None,
        "report_to": list(settings.report_to) or "none",
        "fsdp_config": _json(settings.fsdp_config) if settings.fsdp else None,
        "metric_for_best_model": "loss" if settings.load_best_model_at_end else None,
        "greater_is_better": False if settings.load_best_model_at_end else None,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available() and not settings.use_cpu,
        "ddp_find_unused_parameters": False,
    }


def notes_on(settings: LoopSettings) -> list[str]:
    """What was asked for and this machine does not have."""
    if settings.tf32 and not torch.cuda.is_available():
        return ["tf32 is a number format of NVIDIA GPUs, and there is none: not used"]
    return []


def _json(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"{path} is not a JSON file: {problem}.", hint="Check --fsdp-config."
        ) from problem
    return dict(loaded)
