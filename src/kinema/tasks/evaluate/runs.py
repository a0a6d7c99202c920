"""Measure models on a benchmark: predict once, score as often as wanted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kinema.captioning.exports import check_folder
from kinema.engines import EngineSettings, world_size
from kinema.errors import UsageError
from kinema.evaluation.benchmarks import Benchmark, find_benchmark
from kinema.evaluation.presets import PRESETS, PresetName
from kinema.evaluation.records import Item, Record
from kinema.files import refuse_foreign
from kinema.jobs.ledger import Ledger
from kinema.jobs.progress import Meter, Progress
from kinema.jobs.runner import unfinished, work_off
from kinema.messages import SamplingParams
from kinema.tasks.deciding import model_identity
from kinema.tasks.evaluate.predicting import Predictor
from kinema.tasks.evaluate.questions import Question
from kinema.tasks.evaluate.stored import FILES, LEDGER, Run, score_run, write_run
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.tasks.site import Runner, check_site, open_site, window_of
from kinema.types import FrameSampling
from kinema.version import __version__


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What is measured and how; everything here decides the numbers."""

    benchmark: str
    data: Path
    split: str = ""
    preset: PresetName = "official"
    limit: int | None = None
    sampling: FrameSampling = FrameSampling()
    params: SamplingParams = SamplingParams()
    rank_options: bool = False
    """Rank the options by log-probability instead of reading replies."""
    blind: bool = False
    """Ask without the video: what is known from the questions alone."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; it must be at least 1.", hint="Leave out.")
        if self.preset not in PRESETS:
            raise UsageError(f"There is no preset {self.preset!r}.", hint=", ".join(PRESETS))


def run_benchmark(  # noqa: PLR0913  one keyword per choice of the user is the point
    settings: EvalSettings,
    model: str,
    *,
    output: Path,
    engine: str | None = None,
    loading: EngineSettings = EngineSettings(),
    parts: CheckpointParts = CheckpointParts(),
    restart: bool = False,
    retry_failed: bool = False,
    runner: Runner = "local",
    workers: int = 2,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Run:
    """Answer every item that has no answer yet, then score.

    Killed at any moment and called again, it goes on where it was and ends with the same files.

    Args:
        settings: what is measured.
        model: which one.
        output: the folder of all runs; this one gets a folder of its own in it.
        engine: instead of the family's first.
        loading: how weights are loaded.
        parts: what the checkpoint is put together from.
        restart: start over when the folder holds a run with other settings.
        retry_failed: ask items again that failed.
        runner: this process, or a Ray cluster; the records are the same.
        workers: processes that decode; with the runner ray, actors that have an engine each.
        on_progress: told of every item that ends.

    Raises:
        UsageError: the data is not in the benchmark's layout, or ``output`` holds another run, or
            files that are none of kinema's.
        MissingPackage: the runner is not installed.
        Unfinished: the engine or the run failed; what is answered is written, and not scored.
    """
    benchmark = find_benchmark(settings.benchmark)
    items = read_items(benchmark, settings)
    found = find_model(model, engine=engine, parts=parts)
    check_site(found, loading, runner)
    about = _about(settings, benchmark, items)
    predictor = Predictor(
        about | model_identity(found, loading), settings.params, settings.rank_options
    )
    questions = _questions(items, settings, found.family.default_sampling)
    place = output / run_name(model, blind=settings.blind)
    check_folder(place)
    if not (place / LEDGER).exists():
        refuse_foreign((place / name for name in FILES), force=restart)
    with Ledger(place / LEDGER, settings=predictor.identity, restart=restart) as ledger:
        ledger.enter(((item.id, {}) for item in items), retry_failed=retry_failed)
        problem = None
        meter = Meter(ledger, questions.keys())
        on_progress(meter.begun)
        # In several processes the others wait for this one to open the model, to do or not.
        if ledger.counts().get("todo") or world_size() > 1:
            actors = workers if runner == "ray" else 1
            problem = work_off(
                lambda site: lambda unit: predictor.predict(questions[unit.id], site),
                open_site(found, loading, runner=runner, workers=workers),
                ledger=ledger,
                window=actors * window_of(found.engine, loading),
                report=lambda unit, outcome: on_progress(meter.ended(unit, outcome)),
            )
        ended = [u for u in ledger.units() if u.id in questions and u.state != "todo"]
        asked = {unit.id: questions[unit.id] for unit in ended}
        write_run(
            place,
            about
            | {name: predictor.identity[name] for name in ("model", "engine", "revision")}
            | {"parts": _given(parts), "loading": _given(loading)}
            | {"data": str(settings.data.resolve()), "kinema": __version__},
            [Record(asked[u.id].item, predictor.prediction(asked[u.id], u)) for u in ended],
            {unit.id: unit.result["seconds"] for unit in ended if unit.state == "done"},
            to_do=len(items) - len(ended),
        )
        if problem is not None:
            raise unfinished(problem, ledger, noun="items") from problem
    return score_run(place)


def read_items(benchmark: Benchmark, settings: EvalSettings) -> list[Item]:
    """The items of a split, or its first ``limit``."""
    return benchmark.items(settings.data, split=settings.split)[: settings.limit]


def run_name(model: str, *, blind: bool) -> str:
    """A folder name for a model: its path with nothing in it that a shell minds."""
    name = re.sub(r"[^\w.+-]+", "_", model.strip("/.~")).strip("_") or "model"
    return f"{name}+blind" if blind else name


def fingerprint_items(items: Sequence[Item]) -> str:
    """SHA-256 over everything that the annotation files say, and which videos were found."""
    text = json.dumps([item.to_dict() for item in items], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _questions(
    items: Sequence[Item], settings: EvalSettings, default: FrameSampling
) -> dict[str, Question]:
    benchmark, preset = find_benchmark(settings.benchmark), PRESETS[settings.preset]
    return {
        item.id: Question.of(
            *(item, benchmark, preset, settings.sampling, settings.data),
            blind=settings.blind,
            default=default,
        )
        for item in items
    }


def _about(settings: EvalSettings, benchmark: Benchmark, items: Sequence[Item]) -> dict[str, Any]:
    """Everything but the model that decides the numbers; a ledger never goes on with others."""
    return {
        "benchmark": benchmark.name,
        "data_sha256": fingerprint_items(items),
        "split": settings.split or benchmark.splits[0],
        "limit": settings.limit,
        "preset": settings.preset,
        "sampling": settings.sampling.to_dict(),
        "params": settings.params.to_dict(),
        "rank_options": settings.rank_options,
        "blind": settings.blind,
    }


def _given(settings: CheckpointParts | EngineSettings) -> dict[str, Any]:
    """What differs from the defaults, ready for JSON."""
    values = {f.name: (getattr(settings, f.name), f.default) for f in fields(settings)}
    given = {name: value for name, (value, default) in values.items() if value != default}
    return {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
