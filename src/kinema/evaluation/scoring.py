"""From records to numbers. The denominator is the number of items of the benchmark, always."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kinema.errors import MissingPackage, UsageError
from kinema.evaluation.answers import Answer, read_answer
from kinema.evaluation.benchmarks.base import Benchmark
from kinema.evaluation.metrics import METRICS, Metric, unparsed_lines
from kinema.evaluation.records import Record
from kinema.evaluation.statistics import Interval, Measured, interval, macro


@dataclass(frozen=True)
class Score:
    """One metric of one run."""

    title: str
    score: float
    """Over all items; those without an answer count as wrong."""
    score_on_answered: float
    """Over the items that the model replied to; unparsed replies still count as wrong."""
    interval: Interval | None
    items: int
    lower_is_better: bool = False


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All that is known of one run, without the run's own settings."""

    items: int
    answered: int
    unparsed: int
    """Replies from which nothing could be read; counted as wrong."""
    hidden: int
    """Items whose answers only the benchmark's server knows; left out of the scores."""
    errors: dict[str, int]
    """Items without a reply, by error code."""
    headline: str
    metrics: dict[str, Score]
    tables: dict[str, dict[str, dict[str, float]]]
    """Group, value, then the number of items and the score of each metric."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that could not be computed, and why."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def unparsed_rate(self) -> float:
        """Share of all items, 0 to 1."""
        return self.unparsed / self.items if self.items else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is undefined is null."""
        values = asdict(self) | {"unparsed_rate": round(self.unparsed_rate, 6)}
        plain: dict[str, Any] = _without_nan(values)
        return plain


def score_records(records: Sequence[Record], benchmark: Benchmark) -> Scores:
    """Score a run; nothing but the records is needed."""
    answers = [read_answer(record) for record in records]
    known = [a for a in answers if not is_hidden(a)]
    groups = benchmark.tables
    if groups == ("*",):  # of one's own questions, all that they name
        groups = tuple(dict.fromkeys(group for answer in known for group in answer.item.groups))
    metrics: dict[str, Score] = {}
    unavailable: dict[str, str] = {}
    for name in benchmark.metrics:
        if mine := _measurable(known, name):
            try:
                metrics[name] = _score(mine, METRICS[name], benchmark.macro_over)
            except (MissingPackage, UsageError) as problem:
                unavailable[name] = f"{problem} {problem.hint}".strip()
    return Scores(
        items=len(records),
        answered=sum(record.answered for record in records),
        unparsed=sum(a.record.answered and a.value is None for a in answers),
        hidden=len(answers) - len(known),
        errors=dict(Counter(r.prediction.error_code for r in records if not r.answered)),
        headline=next(iter(metrics), ""),
        metrics=metrics,
        tables={group: _table(known, group, list(metrics)) for group in groups},
        unavailable=unavailable,
        notes=unparsed_lines(answers) if any(a.item.task == "segments" for a in answers) else {},
    )


def is_hidden(answer: Answer) -> bool:
    """True when the right answer is not in the files."""
    item = answer.item
    return item.answer is None if item.task == "choice" else not item.references


def measure(answers: Sequence[Answer], metric: Metric, macro_over: str = "") -> Measured:
    """One metric, averaged over the values of a group where the benchmark says so."""
    values = [answer.item.groups.get(macro_over, "") for answer in answers]
    if not macro_over or len(set(values)) < 2:
        return metric(answers)
    groups = []
    for value in dict.fromkeys(values):
        where = np.array([i for i, v in enumerate(values) if v == value], dtype=np.int64)
        groups.append((metric([answers[i] for i in where]), where))
    return macro(groups, len(answers))


def _score(answers: Sequence[Answer], metric: Metric, macro_over: str) -> Score:
    measured = measure(answers, metric, macro_over)
    answered = [a for a in answers if a.record.answered]
    clusters = [a.record.cluster for a in answers]
    everything = len(answered) == len(answers)
    return Score(
        title=metric.title,
        score=measured.value,
        score_on_answered=measured.value if everything else _value(answered, metric, macro_over),
        interval=interval(measured.influence, measured.value, clusters),
        items=len(answers),
        lower_is_better=metric.lower_is_better,
    )


def _value(answers: Sequence[Answer], metric: Metric, macro_over: str = "") -> float:
    try:
        return measure(answers, metric, macro_over).value if answers else math.nan
    except UsageError:  # one caption alone has no CIDEr
        return math.nan


def _table(answers: Sequence[Answer], group: str, names: list[str]) -> dict[str, dict[str, float]]:
    """The scores of each value of a group."""
    members: dict[str, list[Answer]] = {}
    for answer in answers:
        if group in answer.item.groups:
            members.setdefault(answer.item.groups[group], []).append(answer)
    rows: dict[str, dict[str, float]] = {}
    for value, some in sorted(members.items()):
        of_task = ((name, _measurable(some, name)) for name in names)
        scores = {name: _value(mine, METRICS[name]) for name, mine in of_task if mine}
        rows[value] = {"items": len(some)} | scores
    return rows


def _measurable(answers: Sequence[Answer], name: str) -> list[Answer]:
    """The answers that a metric is about."""
    return [answer for answer in answers if answer.item.task in METRICS[name].tasks]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def worst_answers(
    records: Sequence[Record], benchmark: Benchmark, *, limit: int = 8
) -> list[tuple[Answer, float]]:
    """The answered items with the lowest headline score (highest for errors), with that score."""
    answers = [a for a in map(read_answer, records) if not is_hidden(a) and a.record.answered]
    name = next((m for m in benchmark.metrics if _measurable(answers, m)), "")
    mine = _measurable(answers, name) if name else []
    try:
        per_item = METRICS[name](mine).per_item if mine else None
    except (MissingPackage, UsageError):
        per_item = None
    if per_item is None:
        return []
    sign = -1 if METRICS[name].lower_is_better else 1
    order = sorted(range(len(mine)), key=lambda i: sign * np.nan_to_num(per_item[i], nan=np.inf))
    return [(mine[i], float(per_item[i])) for i in order[:limit]]
