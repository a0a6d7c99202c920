"""The folder of a run: its records, its scores, and what was run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import Unfinished, UsageError
from kinema.evaluation.answers import read_answer
from kinema.evaluation.benchmarks import BENCHMARKS, Benchmark
from kinema.evaluation.records import Record
from kinema.evaluation.scoring import Scores, score_records
from kinema.files import write_json
from kinema.textfiles import read_json_lines, write_json_lines

PREDICTIONS, TIMINGS, RUN, RESULTS, LEDGER = (
    *("predictions.jsonl", "timings.jsonl", "run.json", "results.json", "ledger.sqlite"),
)
FILES = (PREDICTIONS, TIMINGS, RUN, RESULTS)
"""What a run writes into its folder, beside its ledger."""
FORMAT = 2
"""Of a run's folder; 0.1 wrote no number, and seconds into its records."""


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
        return BENCHMARKS[self.about["benchmark"]]

    @property
    def name(self) -> str:
        """How tables call it."""
        blind = " without the video" if self.about["blind"] else ""
        return f"{self.about['model']}{blind}"

    @property
    def complete(self) -> bool:
        """True when every item has a reply."""
        return self.scores.answered == self.scores.items


def write_run(
    folder: Path,
    about: Mapping[str, Any],
    records: Sequence[Record],
    seconds: Mapping[str, float],
    *,
    to_do: int,
) -> None:
    """Write what a run has answered so far; scores of an earlier state go.

    Args:
        folder: of the run.
        about: what was run.
        records: of the items that are done or failed, in the benchmark's order.
        seconds: that the engine spent, by item; they differ from run to run.
        to_do: items that have no record yet.
    """
    for name in (RESULTS, RUN):  # they say nothing of records that are not theirs
        (folder / name).unlink(missing_ok=True)
    write_records(folder / PREDICTIONS, records)
    timings = ({"id": item, "seconds": spent} for item, spent in seconds.items())
    write_json_lines(folder / TIMINGS, timings)
    write_json(folder / RUN, {"format": FORMAT, "to_do": to_do, **about})


def score_run(folder: Path) -> Run:
    """Score the predictions of a folder again: no model, no data set, no GPU.

    Raises:
        UsageError: the folder holds no run, or one of a later version of kinema.
        Unfinished: items of the run are still to do.
    """
    if not (folder / RUN).is_file():
        raise UsageError(f"{folder} holds no evaluation.", hint=f"There is no {RUN} in it.")
    about = json.loads((folder / RUN).read_text(encoding="utf-8"))
    if about.get("format", 1) > FORMAT:
        raise UsageError(
            f"{folder} was written by a later version of kinema (format {about['format']}, this "
            f"one reads up to {FORMAT}).",
            hint="Update kinema.",
        )
    if to_do := about.get("to_do", 0):
        raise Unfinished(
            f"{folder} has no scores yet: {to_do} items are still to do.",
            hint="Run its `kinema eval` command again to go on.",
        )
    records = read_records(folder / PREDICTIONS)
    scores = score_records(records, BENCHMARKS[about["benchmark"]])
    write_json(folder / RESULTS, {"format": FORMAT, "run": about, **scores.to_dict()})
    return Run(folder, about, tuple(records), scores)


def find_runs(output: Path) -> list[Path]:
    """The folders of runs below an output folder, or the folder itself."""
    if (output / RUN).is_file():
        return [output]
    return sorted(path.parent for path in output.glob(f"*/{RUN}"))


def read_records(path: Path) -> list[Record]:
    """Records of a ``predictions.jsonl``."""
    return [Record.from_dict(row.value) for row in read_json_lines(path)]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One JSON line a record, each with what was read from the reply."""
    lines = (record.to_dict() | {"answer": read_answer(record).to_dict()} for record in records)
    write_json_lines(path, lines)
