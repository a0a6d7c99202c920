"""How far a run is: what ended, what is under way, and from both how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kinema.errors import KinemaError
from kinema.jobs.ledger import Ledger, Outcome, Unit


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, after a unit ended or a part of one was done."""

    ended: int
    """Units that ended, in this run and before."""
    of: int
    failed: int
    eta_seconds: float | None
    """None before anything was done."""
    video_seconds: float = 0.0
    """Of video that was worked on in this run, where the verb measures it."""
    found: str = ""
    """What earlier runs left, in a sentence; told once, before anything is done."""
    unit: Unit | None = None
    """The one that this is about."""
    result: Any = None
    """What the unit made, when it has just ended well."""
    problem: KinemaError | None = None
    """Why the unit has just failed."""


OnProgress = Callable[[Progress], None]


@dataclass
class _Share:
    """What is done of units that have not ended."""

    part: float = 0.0
    video_seconds: float = 0.0


class Meter:
    """Counts what ended and what is done of the rest, and tells it.

    Args:
        ledger: has been entered, so that it knows the units of this run.
        on_progress: told at the beginning, of each part of a unit, and of each unit that ends.
    """

    def __init__(self, ledger: Ledger, on_progress: OnProgress = lambda progress: None) -> None:
        states = ledger.states()
        self.ledger = ledger
        self._tell = on_progress
        self._of = len(states)
        self._before = {i for i, state in states.items() if state not in ("todo", "running")}
        self._failed = {i for i, state in states.items() if state in ("failed", "quarantined")}
        self._here: set[str] = set()
        self._open: dict[str, _Share] = {}
        self._all_open = _Share()
        self._video_seconds = 0.0
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Nothing is done yet in this run."""
        self._tell(self._progress(None, found=self.ledger.found))

    def part(self, unit: Unit, share: float, *, video_seconds: float = 0.0) -> None:
        """One more ``share`` of a unit, of 1 in all, is done."""
        for one in (self._open.setdefault(unit.id, _Share()), self._all_open):
            one.part += share
            one.video_seconds += video_seconds
        self._tell(self._progress(unit))

    def ended(self, unit: Unit, outcome: Outcome | KinemaError) -> None:
        """A unit ended; one that failed may be tried, and end, once more."""
        share = self._open.pop(unit.id, _Share())
        self._all_open.part -= share.part
        self._all_open.video_seconds -= share.video_seconds
        self._here.add(unit.id)
        if isinstance(outcome, Outcome):
            self._failed.discard(unit.id)
            self._video_seconds += share.video_seconds
            self._tell(self._progress(unit, result=outcome.result))
            return
        if outcome.settles != "skipped":
            self._failed.add(unit.id)
        self._tell(self._progress(unit, problem=outcome))

    def _progress(self, unit: Unit | None, **told: Any) -> Progress:
        elapsed = time.perf_counter() - self._began
        ended = len(self._before | self._here)
        done = len(self._here) + self._all_open.part
        left = max(0.0, self._of - ended - self._all_open.part)
        return Progress(
            ended=ended,
            of=self._of,
            failed=len(self._failed),
            eta_seconds=elapsed / done * left if done > 0 else None,
            video_seconds=self._video_seconds + self._all_open.video_seconds,
            unit=unit,
            **told,
        )
