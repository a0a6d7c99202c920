"""Measure models on a benchmark: predict once, score as often as wanted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.evaluation.answers import read_answer
from kinema.evaluation.benchmarks import Benchmark, find_benchmark
from kinema.evaluation.presets import PRESETS, PresetName
from kinema.evaluation.records import Item, Prediction, Record
from kinema.evaluation.scoring import Scores, score_records
from kinema.files import write_atomically
from kinema.ledger import Ledger
from kinema.messages import SamplingParams
from kinema.tasks.evaluate.feeding import Question
from kinema.tasks.evaluate.predicting import Predictor
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.types import FrameSampling
from kinema.version import __version__

PREDICTIONS, RUN, RESULTS, LEDGER = (
    *("predictions.jsonl", "run.json", "results.json", "ledger.sqlite"),
)
_DECIDING = ("dtype", "attn", "quantization", "adapter", "compile", "max_context", "served_model")
"""Ways of loading that can change a number; a run never goes on with others."""
_MAX_ATTEMPTS = 5
"""An item that was being answered when the process died this often is given up."""


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


@dataclass(frozen=True)
class Run:
    """One model, or the same model without the video, on one benchmark."""

    folder: Path
    about: dict[str, Any]
    """Everything in ``run.json``."""
    records: tuple[Record, ...]
    scores: Scores

    @property
    def benchmark(self) -> Benchmark:
        """The row that it belongs to."""
        return find_benchmark(self.about["benchmark"])

    @property
    def name(self) -> str:
        """How tables call it."""
        blind = " without the video" if self.about["blind"] else ""
        return f"{self.about['model']}{blind}"

    @property
    def complete(self) -> bool:
        """True when every item has a reply."""
        return self.scores.answered == self.scores.items


def run_benchmark(
    settings: EvalSettings,
    model: str,
    *,
    output: Path,
    engine: str | None = None,
    loading: EngineSettings = EngineSettings(),
    parts: CheckpointParts = CheckpointParts(),
    restart: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Answer every item that has no answer yet, then score.

    Killed at any moment and called again, it goes on where it was and ends with the same files.

    Raises:
        UsageError: the data is not in the benchmark's layout, or ``output`` holds another run.
    """
    benchmark = find_benchmark(settings.benchmark)
    items = read_items(benchmark, settings)
    found = find_model(model, engine=engine, parts=parts)
    place = output / run_name(model, blind=settings.blind)
    place.mkdir(parents=True, exist_ok=True)
    with Predictor(found, settings.params, loading, rank=settings.rank_options) as predictor:
        about = {
            **_about(settings, benchmark, items),
            "model": model,
            "engine": found.engine,
            "revision": predictor.revision,
            "parts": _given(parts),
        }
        loaded = _given(loading)
        deciding = about | {k: v for k, v in loaded.items() if k in _DECIDING}
        with Ledger(
            place / LEDGER, settings=deciding, max_attempts=_MAX_ATTEMPTS, restart=restart
        ) as ledger:
            ledger.add((item.id, {}) for item in items)
            waiting = {unit.id for unit in ledger.units("todo")}
            on_progress(len(items) - len(waiting), len(items))
            questions = _questions((i for i in items if i.id in waiting), settings)
            answers = predictor.answer(questions, on_begin=lambda: ledger.claim(1))
            for done, (item_id, prediction) in enumerate(answers, len(items) - len(waiting) + 1):
                ledger.finish(item_id, prediction.to_dict())
                on_progress(done, len(items))
            records = _collect(ledger, items)
    write_records(place / PREDICTIONS, records)
    about |= {"data": str(settings.data.resolve()), "loading": loaded, "kinema": __version__}
    write_atomically(place / RUN, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return score_run(place)


def read_items(benchmark: Benchmark, settings: EvalSettings) -> list[Item]:
    """The items of a split, or its first ``limit``."""
    return benchmark.items(settings.data, split=settings.split)[: settings.limit]


def run_name(model: str, *, blind: bool) -> str:
    """A folder name for a model: its path with nothing in it that a shell minds."""
    name = re.sub(r"[^\w.+-]+", "_", model.strip("/.~")).strip("_") or "model"
    return f"{name}+blind" if blind else name


def score_run(folder: Path) -> Run:
    """Score the predictions of a folder again: no model, no data set, no GPU.

    Raises:
        UsageError: the folder holds no run.
    """
    if not (folder / RUN).is_file():
        raise UsageError(f"{folder} holds no evaluation.", hint=f"There is no {RUN} in it.")
    about = json.loads((folder / RUN).read_text(encoding="utf-8"))
    records = read_records(folder / PREDICTIONS)
    scores = score_records(records, find_benchmark(about["benchmark"]))
    results = {"run": about, **scores.to_dict()}
    write_atomically(folder / RESULTS, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return Run(folder, about, tuple(records), scores)


def find_runs(output: Path) -> list[Path]:
    """The folders of runs below an output folder, or the folder itself."""
    if (output / RUN).is_file():
        return [output]
    return sorted(path.parent for path in output.glob(f"*/{RUN}"))


def read_records(path: Path) -> list[Record]:
    """Records of a ``predictions.jsonl``."""
    with path.open(encoding="utf-8") as file:
        return [Record.from_dict(json.loads(line)) for line in file]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One JSON line a record, each with what was read from the reply."""
    lines = (json.dumps(_line(record), ensure_ascii=False) for record in records)
    write_atomically(path, "".join(line + "\n" for line in lines))


def _line(record: Record) -> dict[str, Any]:
    return record.to_dict() | {"answer": read_answer(record).to_dict()}


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


def fingerprint_items(items: Sequence[Item]) -> str:
    """SHA-256 over everything that the annotation files say, and which videos were found."""
    text = json.dumps([item.to_dict() for item in items], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _questions(items: Iterable[Item], settings: EvalSettings) -> Iterator[Question]:
    benchmark, preset = find_benchmark(settings.benchmark), PRESETS[settings.preset]
    for item in items:
        yield Question.of(
            item, benchmark, preset, settings.sampling, settings.data, blind=settings.blind
        )


def _collect(ledger: Ledger, items: Sequence[Item]) -> list[Record]:
    """Records in benchmark order, whatever the order in which they were answered."""
    units = {unit.id: unit for unit in ledger.units()}
    records = []
    for item in items:
        unit = units[item.id]
        prediction = Prediction(
            reply=None, error=unit.error or f"left {unit.state}", error_code=unit.state
        )
        if unit.state == "done":
            prediction = Prediction.from_dict(unit.result)
        records.append(Record(item, prediction))
    return records
