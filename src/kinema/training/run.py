"""One training run: from samples and a model folder to the weights that were learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import PrinterCallback, Trainer, set_seed

from kinema.errors import UsageError
from kinema.families import Checkpoint, Family
from kinema.files import write_atomically
from kinema.messages import Conversation
from kinema.models.importers.parts import without_bars
from kinema.training.arguments import notes_on, training_arguments
from kinema.training.batch import Collate, Rows
from kinema.training.checkpoints import chosen_checkpoint, tidy
from kinema.training.examples import ExampleMaker
from kinema.training.journal import Journal
from kinema.training.loading import load_config, load_learner, load_processor
from kinema.training.memory import spare_memory
from kinema.training.packing import pack
from kinema.training.results import SETTINGS, require_own_format, save_result, write_base
from kinema.training.settings import TrainSettings
from kinema.training.stages import keep_what_learns, learning_counts
from kinema.training.survey import Survey, survey

_FREE = ("max_steps", "num_train_epochs", "logging_steps", "save_steps", "save_total_limit",
         "save_strategy", "resume_from_checkpoint", "report_to", "run_name", "project",
         "dataloader_num_workers", "output_dir")  # fmt: skip
"""Settings that may change between a run and its resumption."""


@dataclass(frozen=True)
class Told:
    """What a run learns from: conversations, and what to call each when it is bad."""

    conversations: Sequence[Conversation]
    names: Sequence[str]


@dataclass(frozen=True)
class Trained:
    """What came of a run."""

    folder: Path
    """The learned weights."""
    steps: int
    loss: float | None
    """Mean training loss of this call; None when nothing was left to do."""
    tokens: int
    """Tokens of all samples, seen once."""


def train(
    settings: TrainSettings,
    folder: Path,
    *,
    family: Family,
    checkpoint: Checkpoint,
    learned: Told,
    measured: Told | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train, or go on where a killed run stopped.

    Args:
        settings: everything that can be chosen.
        folder: the `VideoLM` that training begins with.
        family: how its prompts are written.
        checkpoint: its small files.
        learned: samples to learn from.
        measured: samples that the evaluation loss is measured on.
        say: gets lines for people.

    Raises:
        UsageError: settings, samples and model do not go together.
        OutOfMemory: says what to lower.
    """
    arguments = training_arguments(settings.loop)
    is_first = arguments.process_index == 0
    tell = say if is_first else (lambda _: None)
    for note in notes_on(settings.loop):
        tell(f"note: {note}")
    run = settings.loop.output_dir
    processor = load_processor(folder)
    config = load_config(folder)
    if settings.data.packing and config.fusion != "splice":
        raise UsageError(
            f"packing puts several samples into a row, and fusion={config.fusion} shows a row's "
            "media to all of it.",
            hint="Train this model without --packing.",
        )
    maker = ExampleMaker(
        processor,
        config,
        family=family,
        checkpoint=checkpoint,
        max_length=_max_length(settings, config),
    )
    rows, found = _rows(learned, maker, settings, tell)
    measured_rows = _rows(measured, maker, settings, tell)[0] if measured else None
    start = _start(settings, run)
    if is_first:
        tidy(run, start_over=start is None)
    set_seed(settings.loop.seed)  # new weights of adapters come from it
    with spare_memory(settings, uses_videos=settings.data.features_folder is None):
        model = load_learner(folder, settings)
        if settings.stage.stage in ("projector", "layers", "full"):
            keep_what_learns(model)  # the rest is left out of checkpoints
        learning, total = learning_counts(model)
        tell(f"{learning:,} of {total:,} weights learn; {len(rows)} rows, {found.tokens} tokens")
        if is_first:
            run.mkdir(parents=True, exist_ok=True)
            write_atomically(run / SETTINGS, yaml.safe_dump(settings.flat(), sort_keys=False))
            write_base(run, folder)
        trainer = Learner(
            model=model,
            args=arguments,
            data_collator=Collate(processor.tokenizer.pad_token_id or 0, settings.data.packing),
            train_dataset=rows,
            eval_dataset=measured_rows,
            callbacks=[Journal(run, tell)],
        )
        loss = _fit(trainer, run, start)
    return Trained(run, trainer.state.global_step, loss, found.tokens)


class Learner(Trainer):  # type: ignore[misc]
    """transformers' loop; weight decay leaves alone what gets no gradient."""

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Names of what decays: a table of which two rows learn does not."""
        names: list[str] = super().get_decay_parameter_names(model)
        hooked = {name for name, p in model.named_parameters() if p._backward_hooks}
        return [name for name in names if name not in hooked]


def _fit(trainer: Any, run: Path, start: Path | None) -> float | None:
    """Run the loop to its end and save the result; returns the mean loss."""
    trainer.remove_callback(PrinterCallback)
    with without_bars():
        loss: float | None = trainer.train(
            resume_from_checkpoint=str(start) if start else None
        ).training_loss
        save_result(trainer, run)
    # Processes of one run part when all are done: who goes early resets the others' links.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return loss


def _rows(
    told: Told, maker: ExampleMaker, settings: TrainSettings, say: Callable[[str], None]
) -> tuple[Rows, Survey]:
    found = survey(told.conversations, told.names, maker, too_long=settings.data.too_long)
    for note in found.notes:
        say(f"note: {note}")
    if settings.data.packing:
        capacity = maker.max_length
        bins = pack(found.lengths, capacity=capacity, seed=settings.loop.seed)
        rows = [[found.kept[i] for i in one] for one in bins]
    else:
        rows = [[i] for i in found.kept]
    return Rows(told.conversations, rows, maker.make), found


def _max_length(settings: TrainSettings, config: Any) -> int:
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    wanted = settings.data.model_max_length
    if wanted is None:
        return int(context or 2048)
    if context is not None and wanted > context:
        raise UsageError(
            f"model_max_length is {wanted} and the model has {context} positions.",
            hint=f"Use --model-max-length {context} or less.",
        )
    return wanted


def _start(settings: TrainSettings, run: Path) -> Path | None:
    """The checkpoint that a run goes on from; None where it begins."""
    wanted = settings.loop.resume_from_checkpoint
    if (wanted or "").lower() not in ("none", "false"):
        require_own_format(run)
    start = chosen_checkpoint(run, wanted)
    if start is not None and start.parent == run:
        _check_same(settings, run)
    return start


def _check_same(settings: TrainSettings, run: Path) -> None:
    """Refuse to go on with a run under other settings."""
    file = run / SETTINGS
    before = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, value in settings.flat().items():
        if name in before and name not in _FREE and before[name] != value:
            raise UsageError(
                f"{run} holds a run with {name} {before[name]}, and now it is {value}.",
                hint="Choose another --output-dir, or --resume-from-checkpoint none to start over.",
            )
