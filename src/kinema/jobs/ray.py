"""The same work on a Ray cluster: the driver tells the story of each unit, actors do the work.

Each actor is a process with a :class:`~kinema.jobs.site.Local` of its own: decoders and one engine.
The questions about one long video go to whichever actor has the least to do, so its captions spread
over all of them. Ray starts an actor that died again and gives it its calls once more.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from kinema.errors import EngineDied, KinemaError
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import Answers, Site
from kinema.jobs.towers import Encoded
from kinema.messages import Ask, Reply, VideoPart
from kinema.video import Workers

# Ray 2.60 reads these when it is imported. Without the first, a job that `uv run` has started gives
# each actor an environment of its own, made from a copy of the working folder, in which Ray may be
# missing. Without the second, Ray reports to its makers, in a thread that outlives the job.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray.exceptions import RayError

T = TypeVar("T")

_CALLS_AT_ONCE = 1024
"""Calls that an actor may have begun; what it really runs together is its scheduler's business."""
_RESTARTS = 8
"""How often an actor that died is started again, and its calls with it."""


class RaySite:
    """Actors on a Ray cluster (``RAY_ADDRESS``, or one that is started on this machine).

    Args:
        open_local: opens an actor's own site; travels to the actor.
        actors: how many; each has an engine.
        gpus: of each actor, where the cluster has any.
        answers: answers that are known, kept by the driver.

    Raises:
        EngineDied: the cluster cannot be reached.
    """

    def __init__(
        self,
        open_local: Callable[[ExitStack], Site],
        *,
        actors: int,
        gpus: int = 0,
        answers: AnswerCache | None = None,
    ) -> None:
        try:
            if not ray.is_initialized():
                ray.init(
                    address=os.environ.get("RAY_ADDRESS"),
                    log_to_driver=False,
                    include_dashboard=False,
                )
            options = {
                "num_cpus": 1,
                "num_gpus": gpus if ray.cluster_resources().get("GPU") else 0,
                "max_restarts": _RESTARTS,
                "max_task_retries": _RESTARTS,
                "max_concurrency": _CALLS_AT_ONCE,
            }
            actor = ray.remote(_Actor).options(**options)
            self._actors = [actor.remote(open_local) for _ in range(actors)]
        except RayError as problem:
            raise _cluster_failed(problem) from problem
        self._busy = [0] * actors
        self._answers = Answers(answers, partial(self._call, Site.answer))

    def close(self) -> None:
        """End the actors; the cluster stays."""
        for actor in self._actors:
            ray.kill(actor)

    async def look(self, task: Callable[[Workers], T]) -> T:
        """See :class:`kinema.jobs.site.Site`."""
        return await self._call(Site.look, task)

    async def answer(self, ask: Ask) -> Reply:
        """See :class:`kinema.jobs.site.Site`."""
        return await self._answers.answer(ask)

    async def encode(self, part: VideoPart, variants: Sequence[str] = ("",)) -> Encoded:
        """See :class:`kinema.jobs.site.Site`."""
        return await self._call(Site.encode, part, variants)

    async def count(self, text: str) -> int:
        """See :class:`kinema.jobs.site.Site`."""
        return await self._call(Site.count, text)

    async def context_length(self) -> int | None:
        """See :class:`kinema.jobs.site.Site`."""
        return await self._call(Site.context_length)

    async def _call(self, method: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Let the actor with the least to do run a method of its site."""
        number = min(range(len(self._actors)), key=self._busy.__getitem__)
        self._busy[number] += 1
        try:
            made = await self._actors[number].call.remote(method.__name__, *arguments)
        except RayError as problem:
            raise _cluster_failed(problem) from problem
        finally:
            self._busy[number] -= 1
        if isinstance(made, KinemaError):
            raise made
        found: T = made
        return found


class _Actor:
    """One process of the cluster. Its errors come back as values: Ray would wrap raised ones."""

    def __init__(self, open_local: Callable[[ExitStack], Site]) -> None:
        self._stack = ExitStack()
        self._open_local = open_local
        self._local: Site | None = None

    async def call(self, method: str, *arguments: Any) -> Any:
        try:
            if self._local is None:
                self._local = self._open_local(self._stack)
            return await getattr(self._local, method)(*arguments)
        except KinemaError as problem:
            return problem


def _cluster_failed(problem: RayError) -> EngineDied:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return EngineDied(
        f"The Ray cluster failed: {lines[-1]}",
        hint="Run the same command again; what was answered is kept.",
    )
