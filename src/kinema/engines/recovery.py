"""What becomes of requests whose engine broke down: the one policy, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinema.engines.failures import may_be_one_requests
from kinema.engines.job import Job
from kinema.errors import EngineDied, KinemaError, OutOfMemory, RequestFailed

_TRIES = 3
"""How often a request that fails the engine is run before the engine is blamed for good."""
_GROW_AFTER = 64
"""Answers after which a batch that was made smaller for want of memory may grow again."""


@dataclass(frozen=True)
class Decision:
    """What to do after a breakdown."""

    first: tuple[Job, ...] = ()
    """To run again before all that waits."""
    last: tuple[Job, ...] = ()
    """To run again behind all that waits."""
    failed: tuple[tuple[Job, KinemaError], ...] = ()
    reopen: bool = False
    """The engine is closed, and opened again for the next request."""


class Recovery:
    """Decides by what happened and by what was answered since.

    Out of memory with others: fewer run together. The engine died, or refused a whole batch: those
    that ran are tried one at a time. Alone: the request runs once more, behind all that waits. It
    is blamed when others were answered in between; when nothing was, the engine is opened anew, and
    in the end its own error reaches the caller.
    """

    def __init__(self) -> None:
        self.num_answered = 0
        self._most: int | None = None
        self._grows_at = 0

    def room(self, running: int, batch_size: int | None) -> int | None:
        """How many more may run; None where the engine alone decides."""
        if self._most is not None and self.num_answered >= self._grows_at:
            self._most, self._grows_at = 2 * self._most, self.num_answered + _GROW_AFTER
            if batch_size is not None and self._most >= batch_size:
                self._most = None
        return None if self._most is None else max(0, self._most - running)

    def is_early(self, job: Job) -> bool:
        """Whether it failed alone and nothing was answered since, so that others go first."""
        return job.failed_at == self.num_answered

    def decide(self, jobs: Sequence[Job], problem: KinemaError) -> Decision:
        """What becomes of the jobs that ran when the engine raised ``problem``."""
        # Pieces of these answers were handed over, and cannot be taken back.
        failed = tuple((job, problem) for job in jobs if job.has_said)
        again = tuple(job for job in jobs if not job.has_said)
        died = isinstance(problem, EngineDied)
        if len(jobs) == 1 and again:
            return self._alone(again[0], problem)
        if isinstance(problem, OutOfMemory):
            self._most, self._grows_at = len(jobs) // 2 or 1, self.num_answered + _GROW_AFTER
        else:
            for job in again:
                job.tries += 1
        return Decision(first=again, failed=failed, reopen=died)

    def _alone(self, job: Job, problem: KinemaError) -> Decision:
        """A request failed with no other beside it: it or the engine is to blame."""
        died = isinstance(problem, EngineDied)
        first_failed_at, job.failed_at = job.failed_at, self.num_answered
        job.tries += 1
        if not may_be_one_requests(problem):
            # Refused, or the network's fault, whatever else was answered meanwhile.
            return Decision(failed=((job, problem),))
        if first_failed_at is not None and self.num_answered > first_failed_at:
            blamed = RequestFailed(str(problem), hint=problem.hint)
            return Decision(failed=((job, blamed),), reopen=died)
        if job.tries >= _TRIES:  # all that waited ran in between, and nothing was answered
            return Decision(failed=((job, problem),), reopen=died)
        return Decision(last=(job,), reopen=died or first_failed_at is not None)
