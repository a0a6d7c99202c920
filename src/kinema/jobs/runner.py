"""Runs one unit's story for every unit of a ledger, and settles each by what came of it.

The policy for failures stands here and on the error classes (:mod:`kinema.errors`), once for all
verbs: what is wrong with an input or a request fails its unit by name; what the engine, the network
or the run did ends the run, and units stay to do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from kinema.engines import world_size
from kinema.errors import (
    KinemaError,
    MissingCapability,
    MissingPackage,
    Unfinished,
    UsageError,
    as_sentence,
)
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter

S = TypeVar("S")
T = TypeVar("T")

REFUSALS = (UsageError, MissingPackage, MissingCapability)
"""What ends a command as itself, with its own exit status, when nothing was done yet."""

One = Callable[[Unit], Awaitable[Outcome]]
"""The story of one unit; raises what is wrong with it."""
Report = Callable[[Unit, Outcome | KinemaError], None]
"""Told of each unit that has ended: done, failed, or to be tried once more."""


class Cancelled(Exception):
    """Whoever asked for the work does not want it any more."""


async def run(
    one: One,
    *,
    ledger: Ledger,
    window: int,
    report: Report = lambda unit, outcome: None,
) -> None:
    """Work on every unit that is to do, ``window`` of them at a time.

    A unit that may have taken the process down in an earlier run is worked on alone, before the
    others. Units that had begun when the run ends early are to do again.

    Raises:
        KinemaError: of the engine or of the run; every unit without an outcome stays to do.
    """

    async def work(unit: Unit) -> None:
        try:
            outcome = await one(unit)
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            ledger.fail(unit, problem)
            report(unit, problem)
        else:
            ledger.finish(unit, outcome)
            report(unit, outcome)

    try:
        while (suspect := ledger.claim(suspect=True)) is not None:
            await work(suspect)
        await _together(work, ledger, window)
    finally:
        ledger.give_back()


async def _together(
    work: Callable[[Unit], Coroutine[Any, Any, None]], ledger: Ledger, window: int
) -> None:
    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            while len(running) < window and (unit := ledger.claim()) is not None:
                running.add(asyncio.create_task(work(unit)))
            if not running:
                return
            # A unit that failed for a passing reason is to do again, so look after each end.
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Several may have failed at once; asyncio complains of errors that were not retrieved.
            for problem in filter(None, [task.exception() for task in ended]):
                raise problem
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def work_off(
    one: Callable[[S, Unit], Awaitable[Outcome]],
    site: AbstractContextManager[S],
    meter: Meter,
    *,
    window: int,
    last: Callable[[S], Awaitable[None]] | None = None,
    stop: Stoppable | None = None,
) -> KinemaError | None:
    """Work on every unit that is to do; what ended the run early, if anything did.

    Args:
        one: the story of one unit at the site.
        site: opened when there is something to do, and closed at the end.
        meter: of the ledger that holds the units; told of each that has ended.
        window: units under way at one time.
        last: what is done at the site when every unit has an outcome.
        stop: cancels the work from another thread.

    Raises:
        UsageError, MissingPackage, MissingCapability: no unit had ended, and running the same
            command again does not help.
        Cancelled: by ``stop``.
    """
    meter.begin()
    # In several processes the others wait for this one to open the model, to do or not.
    if not meter.ledger.counts().get("todo") and last is None and world_size() == 1:
        return None

    async def work(opened: S) -> None:
        await run(partial(one, opened), ledger=meter.ledger, window=window, report=meter.ended)
        if last is not None:
            await last(opened)

    had_ended = meter.ledger.num_ended
    try:
        with site as opened:
            (stop or Stoppable()).run(lambda: work(opened))
    except KinemaError as problem:
        if isinstance(problem, REFUSALS) and meter.ledger.num_ended == had_ended:
            raise
        return problem
    return None


def in_own_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a loop of its own, also where this thread has one already.

    Notebooks and servers have a loop; the work of a job never runs in it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    thread = ThreadPoolExecutor(1, "kinema-job")
    try:
        return thread.submit(lambda: asyncio.run(main())).result()
    finally:
        thread.shutdown(wait=False)


class Stoppable:
    """A job's coroutine that another thread may cancel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def cancel(self) -> None:
        """Make :meth:`run` raise :class:`Cancelled`, now or when it begins."""
        with self._lock:
            self._cancelled = True
            if self._task is not None:
                loop, task = self._task
                loop.call_soon_threadsafe(task.cancel)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main`` in a loop of its own.

        Raises:
            Cancelled: :meth:`cancel` was called.
        """

        async def cancellable() -> T:
            task = asyncio.current_task()
            assert task is not None
            with self._lock:
                if self._cancelled:
                    raise Cancelled
                self._task = (asyncio.get_running_loop(), task)
            try:
                return await main()
            except asyncio.CancelledError:
                if self._cancelled:
                    raise Cancelled from None
                raise
            finally:
                with self._lock:
                    self._task = None

        return in_own_loop(cancellable)


def unfinished(problem: KinemaError, ledger: Ledger) -> KinemaError:
    """The error that a command ends with when the run stopped and units are still to do."""
    left = ledger.counts().get("todo", 0)
    if not left:
        return problem
    again = "Run the same command again to go on."
    hint = problem.hint if "same command again" in problem.hint else f"{problem.hint} {again}"
    return Unfinished(
        f"The run stopped: {as_sentence(str(problem))} {left} {ledger.noun} are still to do.",
        hint=hint.strip(),
    )
