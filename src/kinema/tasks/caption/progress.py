"""How far a run is: what ended, what is under way, and from both how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from kinema.captioning.records import Segment
from kinema.errors import KinemaError
from kinema.ledger import Ledger, Unit
from kinema.tasks.caption.describe import Described


@dataclass(frozen=True)
class Progress:
    """How far a run is, after a video ended or one of its segments was described."""

    videos: int
    """That ended, in this run and before."""
    of: int
    failed: int
    video_seconds: float
    """That were described in this run."""
    elapsed_seconds: float
    eta_seconds: float | None
    """None before anything was described."""
    source: str = ""
    described: Described | None = None
    """The video that has just ended; None for one that failed or goes on."""
    problem: KinemaError | None = None


@dataclass
class _Share:
    """What is described of a video that has not ended."""

    part: float = 0.0
    seconds: float = 0.0


class Meter:
    """Counts what ended and what is described of the rest.

    Args:
        wanted: units of this run, of all that the ledger holds.
    """

    def __init__(self, ledger: Ledger, wanted: Collection[str]) -> None:
        states = {unit.id: unit.state for unit in ledger.units() if unit.id in wanted}
        self._of = len(states)
        self._before = {i for i, state in states.items() if state not in ("todo", "running")}
        self._failed = {i for i, state in states.items() if state in ("failed", "quarantined")}
        self._here: set[str] = set()
        self._open: dict[str, _Share] = {}
        self._all_open = _Share()
        self._video_seconds = 0.0
        self._began = time.perf_counter()

    def answered(self, unit: Unit, segment: Segment, *, of: int) -> Progress:
        """One more of a video's ``of`` segments has its answer."""
        seconds = segment.end_seconds - segment.start_seconds
        for share in (self._open.setdefault(unit.id, _Share()), self._all_open):
            share.part += 1 / of
            share.seconds += seconds
        return self._progress(unit)

    def ended(self, unit: Unit, outcome: Described | KinemaError) -> Progress:
        """A video ended; one that failed may be tried, and end, once more."""
        share = self._open.pop(unit.id, _Share())
        self._all_open.part -= share.part
        self._all_open.seconds -= share.seconds
        self._here.add(unit.id)
        if isinstance(outcome, KinemaError):
            self._failed.add(unit.id)
            return self._progress(unit, problem=outcome)
        self._failed.discard(unit.id)
        self._video_seconds += outcome.record.duration_seconds
        return self._progress(unit, described=outcome)

    def _progress(
        self,
        unit: Unit,
        *,
        described: Described | None = None,
        problem: KinemaError | None = None,
    ) -> Progress:
        elapsed = time.perf_counter() - self._began
        ended = len(self._before | self._here)
        done = len(self._here) + self._all_open.part
        left = max(0.0, self._of - ended - self._all_open.part)
        return Progress(
            videos=ended,
            of=self._of,
            failed=len(self._failed),
            video_seconds=self._video_seconds + self._all_open.seconds,
            elapsed_seconds=elapsed,
            eta_seconds=elapsed / done * left if done > 0 else None,
            source=unit.payload["source"],
            described=described,
            problem=problem,
        )
