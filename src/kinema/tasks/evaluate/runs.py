"""Measure models on a benchmark: predict once, score as often as wanted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.captioning.exports import check_folder
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.evaluation.benchmarks import BENCHMARKS, Benchmark
from kinema.evaluation.presets import PRESETS, PresetName, choose_sampling, put_question
from kinema.evaluation.records import Item, Record
from kinema.files import refuse_foreign, stamp_of, unchanged
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter, OnProgress
from kinema.jobs.runner import unfinished, work_off
from kinema.jobs.site import Site
from kinema.messages import SamplingParams
from kinema.plain import changed
from kinema.ranges import require_value
from kinema.tasks.deciding import model_identity
from kinema.tasks.evaluate.predicting import Predictor
from kinema.tasks.evaluate.questions import Question, video_of
from kinema.tasks.evaluate.stored import FILES, LEDGER, Run, score_run, write_run
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.tasks.site import JobSettings, check_site, open_site
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
        require_value(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        if self.preset not in PRESETS:
            raise UsageError(f"There is no preset {self.preset!r}.", hint=", ".join(PRESETS))


def run_benchmark(
    settings: EvalSettings,
    model: str,
    *,
    output: Path,
    engine: str | None = None,
    loading: EngineSettings = EngineSettings(),
    parts: CheckpointParts = CheckpointParts(),
    job: JobSettings = JobSettings(),
    on_progress: OnProgress = lambda progress: None,
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
        job: where the work is done, and what happens to what an earlier run left.
        on_progress: told of every item that ends.

    Raises:
        UsageError: the data is not in the benchmark's layout, or ``output`` holds another run, or
            files that are none of kinema's.
        MissingPackage: the runner is not installed.
        Unfinished: the engine or the run failed; what is answered is written, and not scored.
    """
    benchmark = BENCHMARKS[settings.benchmark]
    items = benchmark.items(settings.data, split=settings.split)[: settings.limit]
    found = find_model(model, engine=engine, parts=parts)
    check_site(found, loading, job.runner)
    about = _about(settings, benchmark, items)
    predictor = Predictor(
        found.name,
        about | model_identity(found, loading) | job.decided,
        settings.params,
        settings.rank_options,
    )
    questions = _questions(items, settings, found.family.default_sampling)

    # A blind run reads no video.
    files = {name: Path(str(q.source)) for name, q in questions.items() if q.source is not None}
    stamps = {file: stamp_of(file) for file in set(files.values())}

    async def one(site: Site, unit: Unit) -> Outcome:
        file = files.get(unit.id)
        with nullcontext() if file is None else unchanged(file, stamps[file]):
            return await predictor.predict(questions[unit.id], site)

    place = output / run_name(model, blind=settings.blind)
    check_folder(place)
    if not (place / LEDGER).exists():
        refuse_foreign((place / name for name in FILES), force=job.force)
    place.mkdir(parents=True, exist_ok=True)
    with Ledger(
        place / LEDGER, settings=predictor.identity, anew=job.force, noun="items"
    ) as ledger:
        ledger.enter(((item.id, {}) for item in items), retry_failed=job.retry_failed)
        problem = work_off(
            one,
            open_site(found, loading, job),
            Meter(ledger, on_progress),
            window=job.window(found.engine, loading),
        )
        ended = [u for u in ledger.units() if u.id in questions and u.state != "todo"]
        asked = {unit.id: questions[unit.id] for unit in ended}
        write_run(
            place,
            about
            | {name: predictor.identity[name] for name in ("engine", "revision")}
            | {"model": found.name}
            | {"parts": changed(parts), "loading": changed(loading)}
            | {"data": str(settings.data.resolve()), "kinema": __version__},
            [Record(asked[u.id].item, predictor.prediction(asked[u.id], u)) for u in ended],
            {unit.id: unit.result["seconds"] for unit in ended if unit.state == "done"},
            to_do=len(items) - len(ended),
        )
        if problem is not None:
            raise unfinished(problem, ledger) from problem
    return score_run(place)


def run_name(model: str, *, blind: bool) -> str:
    """A folder name for a model: its path with nothing in it that a shell minds."""
    name = re.sub(r"[^\w.+-]+", "_", model.strip("/.~")).strip("_") or "model"
    return f"{name}+blind" if blind else name


def _questions(
    items: Sequence[Item], settings: EvalSettings, default: FrameSampling
) -> dict[str, Question]:
    """Each item as the preset asks it; ``default`` frames where neither preset nor user say."""
    benchmark, preset = BENCHMARKS[settings.benchmark], PRESETS[settings.preset]
    return {
        item.id: Question(
            item,
            prompt=put_question(item, benchmark, preset),
            system=preset.style(item, benchmark).system,
            source=None if settings.blind else video_of(item, settings.data),
            sampling=choose_sampling(item, benchmark, preset, settings.sampling).or_default(
                default
            ),
            missing=not settings.blind and not item.video,
        )
        for item in items
    }


def _about(settings: EvalSettings, benchmark: Benchmark, items: Sequence[Item]) -> dict[str, Any]:
    """Everything but the model that decides the numbers; a ledger never goes on with others."""
    # All that the annotation files say, and which videos were found.
    text = json.dumps([item.to_dict() for item in items], sort_keys=True)
    return {
        "benchmark": benchmark.name,
        "data_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "split": settings.split or benchmark.splits[0],
        "limit": settings.limit,
        "preset": settings.preset,
        "sampling": settings.sampling.to_dict(),
        "params": settings.params.to_dict(),
        "rank_options": settings.rank_options,
        "blind": settings.blind,
    }
