"""``kinema train``: projector, adapters or whole models learn from a data file."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from kinema.cli.output import put, put_record, say
from kinema.cli.sources import HydraFlags, is_override, reads_neva
from kinema.engines import rank
from kinema.errors import UsageError
from kinema.tasks.neva_training import read_neva_training
from kinema.tasks.train import train as run
from kinema.training.former import FormerFlags, with_former
from kinema.training.settings import (
    DataSettings,
    LoopSettings,
    ModelSettings,
    RunPart,
    StageSettings,
    TrainSettings,
)

_MODEL = Group("The model", sort_key=1)
_DATA = Group("The data", sort_key=2)
_STAGE = Group("What learns", sort_key=3)
_LOOP = Group("How it learns", sort_key=4)
_FORMER = Group("Video-ChatGPT's names", sort_key=5)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Other programs' settings, and how the result is shown."""

    model: Annotated[str | None, Parameter(alias="-m")] = None
    """--model-name-or-path, as the other commands call it."""
    neva: Path | None = None
    """Video NeVA's own YAML; words like model.optim.lr=1e-3 override it, and flags win."""
    json: bool = False
    """Print one JSON record."""


@reads_neva("--neva", read_neva_training, script_reads="video_neva_config.yaml")
def train(
    *words: str,
    options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(),
    hydra: Annotated[HydraFlags, Parameter(name="*")] = HydraFlags(),
    model: Annotated[ModelSettings, Parameter(name="*", group=_MODEL)] = ModelSettings(),
    data: Annotated[DataSettings, Parameter(name="*", group=_DATA)] = DataSettings(),
    stage: Annotated[StageSettings, Parameter(name="*", group=_STAGE)] = StageSettings(),
    loop: Annotated[LoopSettings, Parameter(name="*", group=_LOOP)] = LoopSettings(),
    former: Annotated[FormerFlags, Parameter(name="*", group=_FORMER)] = FormerFlags(),
) -> None:
    """Train a VideoLM on chat data, from videos or from features.

    The output folder gets checkpoints, log.jsonl, loss.png, settings.yaml and the learned weights;
    the same command goes on where a killed one stopped. `kinema train merge` makes a model of it.

    Examples:
      kinema train --model LLAMA --vision-tower CLIP --data-path train.jsonl --output-dir run
      kinema train --config settings.yaml --learning-rate 1e-3
      torchrun --nproc-per-node 8 -m kinema train --config settings.yaml
      kinema train --neva video_neva_config.yaml model.data.num_frames=4
      kinema train --config-path conf --config-name video_neva_config model.data.num_frames=4

    Args:
        words: With --neva, overrides of its keys.
    """
    if options.model:
        model = replace(model, model_name_or_path=options.model)
    loop = replace(loop, arguments=_read(loop.arguments))
    settings = TrainSettings(model=model, data=data, stage=stage, loop=loop)
    settings, notes = with_former(settings, former)
    reads_yaml = options.neva is not None or hydra.given
    overrides = [word for word in words if reads_yaml and is_override(word)]
    left = [word for word in words if word not in overrides]
    if left:
        raise UsageError(f"{left[0]!r} was not understood.", hint="See kinema train --help.")
    for note in notes if rank() == 0 else ():
        say(f"note: {note}")
    done = run(settings, say=say)
    if rank() > 0:
        return
    record = {
        "output": str(done.folder),
        "steps": done.steps,
        "loss": done.loss,
        "tokens": done.tokens,
    }
    if options.json:
        put_record(record)
    else:
        put(f"{done.folder}: {done.steps} steps. Next: kinema train merge {done.folder} MODEL")


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of TrainingArguments as numbers, truth values and mappings, not as their words."""
    return {k: _read(v) if isinstance(v, Mapping) else _value(v) for k, v in values.items()}


def _value(word: Any) -> Any:
    with suppress(TypeError, ValueError):
        return json_text.loads({"True": "true", "False": "false"}.get(word, word))
    return word


def merge(run_folder: Path, target: Path, /, *, dtype: str = "auto") -> None:
    """Write the whole model that a run made: `kinema chat --model` takes it.

    Examples:
      kinema train merge run model
      kinema train merge run/checkpoint-500 model

    Args:
        run_folder: The --output-dir of a run, or a checkpoint inside of it.
        target: A folder that does not exist yet.
        dtype: Format of the weights; that of the base when auto.
    """
    from kinema.training.results import merge as merge_run  # noqa: PLC0415  imports torch

    put(str(merge_run(run_folder, target, dtype=dtype)))


def export(run_folder: Path, target: Path, /, *, what: RunPart = "projector") -> None:
    """Take a part out of a run, as safetensors.

    Examples:
      kinema train export run projector.safetensors
      kinema train export run adapter --what adapter

    Args:
        run_folder: The --output-dir of a run, or a checkpoint inside of it.
        target: A file for the projector, a folder for the rest.
        what: projector, adapter (LoRA, as PEFT reads it) or model.
    """
    from kinema.training.results import export as export_part  # noqa: PLC0415  imports torch

    put(str(export_part(run_folder, target, what=what)))
