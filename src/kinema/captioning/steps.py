"""Work on one video as a generator: it asks for calls of the model and is sent the answers.

Nothing here knows an engine, so one process, several videos at once and a cluster run the same
steps and get the same record.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from kinema.captioning.records import Segment
from kinema.config import fingerprint

Kind = Literal["describe", "summarise", "entitle"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One question for the model; the same id always means the same answer."""

    id: str
    kind: Kind
    text: str
    segment: Segment | None = None
    """Its frames are shown; None for words alone."""
    attempt: int = 1
    """From 2 on the answer is drawn at random, with this as the seed."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said to one call."""

    text: str
    finish_reason: str = "stop"
    usage: Mapping[str, int] = field(default_factory=dict)
    frame_indices: tuple[int, ...] = ()
    """Frames that were shown."""
    frame_seconds: tuple[float, ...] = ()
    skipped_frame_seconds: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    """What the engine took; measured, so no part of a record."""
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Answer:
        """The value that :meth:`Answer.to_dict` wrote."""
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return Answer(**given)


Answers = Mapping[str, Answer]
Steps = Generator[list[Call], Answers, T]


def call_id(settings: str, **about: Any) -> str:
    """The id of a call: the fingerprint of the run's settings, and what the call is about."""
    return f"{settings}-{fingerprint(about)}"


def together(steps: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Several generators side by side: what they ask for at one time is asked in one go."""
    results: dict[int, T] = {}
    asked: dict[int, list[Call]] = {}
    for i, step in enumerate(steps):
        _advance(i, step, None, asked, results)
    while asked:
        answers = yield [call for calls in asked.values() for call in calls]
        waiting, asked = asked, {}
        for i, calls in waiting.items():
            mine = {call.id: answers[call.id] for call in calls}
            _advance(i, steps[i], mine, asked, results)
    return [results[i] for i in range(len(steps))]


def _advance(
    i: int,
    step: Steps[T],
    answers: Answers | None,
    asked: dict[int, list[Call]],
    results: dict[int, T],
) -> None:
    try:
        asked[i] = next(step) if answers is None else step.send(answers)
    except StopIteration as end:
        results[i] = end.value
