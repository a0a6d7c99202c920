"""Many callers, one engine, one thread: opens it, feeds it, and deals with what goes wrong.

A CUDA context, a process group and vLLM's loop each belong to the thread that made them. Callers
hold futures: notebooks wait with ``result()``, coroutines through ``asyncio.wrap_future``.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from kinema.engines.base import Engine
from kinema.engines.failures import give_back, named, unopened, without_frames
from kinema.engines.job import Answered, Job
from kinema.engines.recovery import Recovery
from kinema.errors import Busy, KinemaError
from kinema.families import Checkpoint, Family
from kinema.messages import Ask, Completion, Request

T = TypeVar("T")
_log = logging.getLogger(__name__)

_LOOK_AHEAD = 256
"""Waiting requests that are rendered and offered to the engine's ``pick`` at a time."""
_READING_SECONDS = 60.0
"""How long a request that failed alone waits for others whose media are being read."""


class Scheduler:
    """Runs an engine in a thread of its own, for any number of callers.

    It is the engine's :class:`~kinema.engines.base.Inbox`. What becomes of requests whose engine
    breaks down is decided in :mod:`kinema.engines.recovery`.

    Args:
        open_engine: loads the weights; called in the thread, and again when the engine died.
        family: how the model is spoken to.
        checkpoint: its template and special tokens.
        patience_seconds: how long an idle engine waits for requests whose media are being read, so
            that they share a batch.
        on_open: told when the engine begins to be loaded.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        family: Family,
        checkpoint: Checkpoint,
        patience_seconds: float = 0.02,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_engine = open_engine
        self._family = family
        self._checkpoint = checkpoint
        self._patience_seconds = patience_seconds
        self._on_open = on_open
        self._engine: Engine | None = None
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._tasks: deque[Callable[[], None]] = deque()
        self._arriving = self._coming = 0
        self._waited_at: int | None = None
        """How many requests had been answered when others were last waited for."""
        self._recovery = Recovery()
        self.problem: KinemaError | None = None
        """Why the engine cannot be opened, now and later; None while that is not known."""
        self._is_opening = False
        self._closed = False
        self._changed = threading.Condition()
        self._ids = itertools.count()
        self._thread: threading.Thread | None = None

    # -- callers' side ---------------------------------------------------------------------------

    @property
    def num_waiting(self) -> int:
        """Requests that the engine has not begun."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that the engine works on."""
        return len(self._running)

    def submit(self, ask: Ask, *, on_text: Callable[[str], None] | None = None) -> Future[Answered]:
        """Let a question wait for the engine. ``future.cancel()`` makes the engine drop it.

        Args:
            ask: every source in it is decoded.
            on_text: hears the answer piece by piece, in the engine's thread.

        Raises:
            Busy: the scheduler is closed.
        """
        job = Job(str(next(self._ids)), ask, on_text)
        with self._changed:
            self._check_open()
            self._waiting[job.id] = job
            self._changed.notify_all()
        job.future.add_done_callback(self._notify)
        return job.future

    def call(self, task: Callable[[Engine], T]) -> Future[T]:
        """What ``task`` returns for the open engine, in the engine's thread.

        Raises:
            Busy: the scheduler is closed.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(task(self._open()))
            except Exception as problem:
                future.set_exception(problem)

        with self._changed:
            self._check_open()
            self._tasks.append(run)
            self._changed.notify_all()
        return future

    def count(self, ask: Ask) -> Future[int]:
        """Prompt tokens of a question, counted in the engine's thread."""
        job = Job("count", ask, None)
        render = partial(job.rendered, self._family, self._checkpoint)
        return self.call(lambda engine: engine.count_tokens(render()))

    @contextmanager
    def arriving(self, *, soon: bool = True) -> Iterator[None]:
        """Around the reading of a question's media.

        Args:
            soon: an idle engine waits a moment for it, so that it shares a batch.
        """
        with self._changed:
            self._arriving += soon
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= soon
                self._coming -= 1
                self._changed.notify_all()

    def close(self, *, finish: bool = False) -> None:
        """End the thread and give the engine's memory back.

        An engine that is still being loaded is not waited for, as nothing can interrupt that; its
        thread closes it as soon as it is there.

        Args:
            finish: answer first what waits and runs, instead of cancelling it.
        """
        with self._changed:
            self._closed = True
            if not finish:
                for job in (*self._waiting.values(), *self._running.values()):
                    job.future.cancel()
            self._changed.notify_all()
            is_loading = self._is_opening and not finish
        if self._thread is not None and not is_loading:
            self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise Busy("The server is shutting down.", retry_after_seconds=10)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kinema-engine", daemon=True)
            self._thread.start()

    def _notify(self, _: Future[Answered]) -> None:
        with self._changed:
            self._changed.notify_all()

    # -- the engine's side: an Inbox -------------------------------------------------------------

    def take(self, running: Sequence[Request] = ()) -> list[Request]:
        """See :class:`kinema.engines.base.Inbox`."""
        self._run_tasks()
        engine = self._open()
        if not running:
            self._wait_for_others(engine)
        offered = self._rendered()
        if not offered:
            return []
        first = next(iter(offered.values()))
        if any(self._running[r.id].must_run_alone for r in running if r.id in self._running):
            return []
        if first.must_run_alone:
            chosen = [] if running else [first.id]
        else:
            together = [j.request for j in offered.values() if j.request and not j.must_run_alone]
            room = self._recovery.room(len(running), engine.batch_size)
            chosen = [request.id for request in engine.pick(together, running)][:room]
        begun = (self._begin(offered[job_id], engine) for job_id in chosen)
        return [request for request in begun if request is not None]

    def is_cancelled(self, request_id: str) -> bool:
        """See :class:`kinema.engines.base.Inbox`."""
        job = self._running.get(request_id)
        return job is None or job.future.cancelled()

    def is_streamed(self, request_id: str) -> bool:
        """See :class:`kinema.engines.base.Inbox`."""
        job = self._running.get(request_id)
        return job is not None and job.on_text is not None

    def write(self, request_id: str, text: str) -> None:
        """See :class:`kinema.engines.base.Inbox`. Reasoning is not handed on."""
        job = self._running.get(request_id)
        if job is not None and not job.tell(job.hear(text)):
            del self._running[request_id]

    def complete(self, completion: Completion) -> None:
        """See :class:`kinema.engines.base.Inbox`. Reasoning is separated here, for all engines."""
        job = self._running.pop(completion.request_id, None)
        if job is None:
            return
        self._recovery.num_answered += 1
        completion, rest = job.finish(completion)
        if not job.tell(rest):
            return
        if job.future.set_running_or_notify_cancel():
            assert job.request is not None
            note = " ".join(filter(None, (job.note, completion.note)))
            job.future.set_result(Answered(job.request, completion, note))

    def fail(self, request_id: str, problem: KinemaError) -> None:
        """See :class:`kinema.engines.base.Inbox`."""
        job = self._running.pop(request_id, None)
        if job is not None:
            job.fail(problem)

    # -- the engine's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self._drop_cancelled()
            self._run_tasks()
            problem = self._serve()
            # The handler was left, and the traceback dropped, before anything is freed or tried
            # again: its frames hold the tensors of the failed attempt.
            if problem is not None:
                self._recover(problem)
        self._close_engine()

    def _wait(self) -> bool:
        """Until something is to do; False when nothing will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._tasks or self._closed)
            return bool(self._waiting or self._tasks)

    def _serve(self) -> BaseException | None:
        """Let the engine answer what waits; returns what went wrong."""
        if not self._waiting:
            return None
        try:
            self._open().serve(self)
        except Exception as problem:
            return without_frames(problem)
        return None

    def _open(self) -> Engine:
        if self.problem is not None:
            raise self.problem
        if self._engine is None:
            self._on_open()
            self._is_opening = True
            try:
                self._engine = self._open_engine()
            except Exception as problem:
                self.problem = unopened(problem, "The engine")
                raise self.problem from self.problem.__cause__
            finally:
                self._is_opening = False
        return self._engine

    def _run_tasks(self) -> None:
        while self._tasks:
            self._tasks.popleft()()

    def _wait_for_others(self, engine: Engine) -> None:
        """A moment, while media are being read whose requests would fill the batch."""
        self._wait_for_witnesses()
        size = engine.batch_size
        if size is None:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: not self._arriving or len(self._waiting) >= size or self._closed,
                timeout=self._patience_seconds,
            )

    def _wait_for_witnesses(self) -> None:
        """Let others come before one that failed alone: it is blamed when they were answered."""

        def have_come() -> bool:
            early = map(self._recovery.is_early, self._waiting.values())
            return self._closed or bool(self._tasks) or not all(early)

        with self._changed:
            if not self._waiting or have_come() or self._waited_at == self._recovery.num_answered:
                return
            self._waited_at = self._recovery.num_answered
            self._changed.wait_for(lambda: have_come() or not self._coming, _READING_SECONDS)
            self._changed.wait_for(have_come, self._patience_seconds)

    def _rendered(self) -> dict[str, Job]:
        """What waits, in order, each with its request; one that cannot be rendered has failed."""
        self._drop_cancelled()
        with self._changed:
            ordered = sorted(self._waiting.values(), key=self._recovery.is_early)
            jobs = ordered[:_LOOK_AHEAD]
        for job in jobs:
            if job.request is None:
                self._attempt(job, partial(job.rendered, self._family, self._checkpoint))
        return {job.id: job for job in jobs if job.request is not None and job.id in self._waiting}

    def _attempt(self, job: Job, make: Callable[[], Request]) -> None:
        """Give a waiting job the request that ``make`` makes, or the error that it raises."""
        try:
            job.request = make()
        except Exception as problem:
            if isinstance(problem, KinemaError) and problem.blame == "engine":
                raise  # no fault of this request: decided like a breakdown in a batch
            with self._changed:
                self._waiting.pop(job.id, None)
            job.request = None
            job.fail(named(problem, "The request could not be prepared."))

    def _begin(self, job: Job, engine: Engine) -> Request | None:
        """Move a job to those that run, its request known to fit; None when it cannot run."""
        self._attempt(job, partial(job.fitted, engine, self._family, self._checkpoint))
        with self._changed:
            if job.request is None or self._waiting.pop(job.id, None) is None:
                return None
            self._running[job.id] = job
            return job.request

    def _drop_cancelled(self) -> None:
        with self._changed:
            for jobs in (self._waiting, self._running):
                for job in [job for job in jobs.values() if job.future.cancelled()]:
                    del jobs[job.id]
                    job.future.set_running_or_notify_cancel()

    def _recover(self, problem: BaseException) -> None:
        """The engine raised ``problem``: decide what becomes of the requests that it had."""
        jobs = list(self._running.values())
        self._running.clear()
        if not isinstance(problem, KinemaError):
            _log.error("the engine failed", exc_info=problem)
        if self.problem is not None:
            with self._changed:
                jobs += self._waiting.values()
                self._waiting.clear()
        elif not jobs:
            # It failed before it took anything. The first one that waits stands in for what it
            # would have taken, so that failing again and again comes to an end.
            with self._changed:
                jobs = list(self._waiting.values())[:1]
                self._waiting = {i: job for i, job in self._waiting.items() if job not in jobs}
        # It may be one request's fault, or pass; what is wrong with the run stays wrong.
        may_pass = isinstance(problem, KinemaError) and problem.blame in ("request", "engine")
        if self.problem is not None or not jobs or not may_pass:
            for job in jobs:
                job.fail(named(problem, "The engine failed."))
            return
        assert isinstance(problem, KinemaError)
        decision = self._recovery.decide(jobs, problem)
        if decision.reopen:
            self._close_engine()
        elif self._engine is not None:
            give_back(self._engine.release)
        for job, why in decision.failed:
            job.fail(why)
        first, last = ({job.id: job for job in some} for some in (decision.first, decision.last))
        with self._changed:
            self._waiting = first | self._waiting | last

    def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            give_back(engine.close)
