"""Captions for many videos, against a ledger: stopped at any instant, it goes on where it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinema.captioning.quality import worst
from kinema.captioning.records import Segment, Status, VideoRecord
from kinema.captioning.result import Timings
from kinema.captioning.segments import SegmentOptions
from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.errors import DecodeDeadline, DecoderCrashed, KinemaError, MediaError, NoVideoStream
from kinema.jobs.inputs import VideoInput
from kinema.lazy import Row, Table
from kinema.ledger import Ledger, Unit
from kinema.messages import SamplingParams
from kinema.tasks.caption.describe import Described
from kinema.tasks.caption.feed import Feed, OnCaption, Video, read_ahead, unheard
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.options import DEFAULT_FPS, CaptionOptions
from kinema.tasks.caption.plan import Planner, VideoPlan
from kinema.tasks.caption.progress import Meter, Progress
from kinema.tasks.caption.session import Session
from kinema.tasks.caption.work import Work
from kinema.tasks.models import Model
from kinema.types import FrameSampling
from kinema.video import Workers

Runner = Literal["local", "ray"]
RUNNERS = Table(
    "runner",
    {
        "ray": Row(
            "kinema.tasks.caption.ray_runner:describe",
            needs=("ray",),
            install="pip install 'kinema[ray]'",
            summary="Ray Data, on one machine or a cluster",
        )
    },
)

_MAX_ATTEMPTS = 25
"""A run may be killed this often while it works on one video before the video is given up."""
_TRIES = 2
_AHEAD = 8


@dataclass(kw_only=True)
class CaptionJob:
    """Everything that decides the captions of some videos, and where the work is kept.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    inputs: Sequence[VideoInput]
    state: Path
    """Folder of the ledger and, when ``answers`` is not given, of the model's answers."""
    model: Model
    params: SamplingParams = field(default_factory=SamplingParams)
    engine: EngineSettings = field(default_factory=EngineSettings)
    options: CaptionOptions = field(default_factory=CaptionOptions)
    segments: SegmentOptions = field(default_factory=SegmentOptions)
    sampling: FrameSampling = field(default_factory=FrameSampling)
    answers: Path | None = None
    """File of answers that runs may share; the same question is asked once for all of them."""
    tag: str = ""
    """Part of the ledger's name, so that shards can share a folder."""
    workers: int = 2
    """Processes that decode; with the runner ray, workers that have an engine each."""
    runner: Runner = "local"
    """This process, or a Ray cluster; the records are the same."""
    force: bool = False
    """Forget the records that another run with other settings left."""
    retry_failed: bool = False
    """Try those again that failed in an earlier run."""
    recaption: float | None = None
    """Ask again for this share of all captions, the worst ones."""
    _settings: dict[str, Any] | None = field(default=None, init=False)

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> None:
        """Describe every video.

        Raises:
            UsageError: the state belongs to a job with other settings, or another process has it,
                or the model takes no style or language.
            ModelError: the model cannot be loaded.
        """
        self.options.prompts(self.model)  # refused before anything is written
        self.state.mkdir(parents=True, exist_ok=True)
        with (
            Memo(self.answers or self.state / "answers.sqlite") as memo,
            Workers(self.workers) as workers,
            ThreadPoolExecutor(self.workers, "kinema-decode") as pool,
        ):
            session = self._session(memo, workers)
            try:
                with self._ledger(session) as ledger:
                    run = _Run(self, ledger, session, self.work.planner(memo, workers), pool)
                    run.describe(on_progress)
                    if self.recaption is not None:
                        run.describe_again(self.recaption)
            finally:
                session.close()

    def results(self) -> Iterator[Described]:
        """What is known about each video, in the order they were given; ended or not."""
        assert self._settings is not None, "results are read after run"
        with Ledger(
            self._ledger_path, settings=self._settings, max_attempts=_MAX_ATTEMPTS
        ) as ledger:
            yield from (_result(one, ledger.get(unit_of(one))) for one in self.inputs)

    @property
    def _ledger_path(self) -> Path:
        return self.state / f"videos{self.tag}.sqlite"

    def _ledger(self, session: Session) -> Ledger:
        self._settings = session.settings
        ledger = Ledger(
            self._ledger_path,
            settings=session.settings,
            max_attempts=_MAX_ATTEMPTS,
            restart=self.force,
        )
        ledger.add((unit_of(one), {"source": one.source}) for one in self.inputs)
        ledger.reopen("skipped")
        if self.retry_failed:
            ledger.reopen("failed")
            ledger.reopen("quarantined")
        wanted = {unit_of(one) for one in self.inputs}
        for unit in [unit for unit in ledger.units("todo") if unit.id not in wanted]:
            ledger.skip(unit.id, "not asked for in this run")
        return ledger

    @property
    def work(self) -> Work:
        """What decides the records, in a form that travels to other processes."""
        return Work(
            model=self.model.name,
            engine_name=self.model.engine,
            parts=self.model.parts,
            params=self.params,
            engine=self.engine,
            options=self.options,
            segments=self.segments,
            sampling=self.sampling.or_default(FrameSampling(fps=DEFAULT_FPS)),
        )

    def _session(self, memo: Memo, workers: Workers) -> Session:
        return self.work.session(memo, load=workers.load_frames, model=self.model)


class _Run:
    """One pass over what the ledger has to do."""

    def __init__(
        self,
        job: CaptionJob,
        ledger: Ledger,
        session: Session,
        planner: Planner,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._session = session
        self._planner = planner
        self._pool = pool
        self._wanted = {unit_of(one) for one in job.inputs}

    def describe(self, on_progress: Callable[[Progress], None]) -> None:
        """Every video that is to do, those that failed for a passing reason twice."""
        meter = Meter(self._ledger, self._wanted)

        def tell(unit: Unit, segment: Segment, of: int) -> None:
            on_progress(meter.answered(unit, segment, of=of))

        while self._ledger.counts().get("todo"):
            for unit, outcome in self._outcomes(tell):
                self._settle(unit, outcome)
                on_progress(meter.ended(unit, outcome))

    def describe_again(self, share: float) -> None:
        """The worst captions once more; records of first answers stay beside the new ones."""
        units = {u.payload["source"]: u for u in self._ledger.units("done")}
        first = (Described.from_dict(u.result).record for u in units.values())
        chosen = worst(first, share)
        videos = ((units[source], again) for source, again in sorted(chosen.items()))
        for unit, outcome in self._session.drain(self._feed(videos)):
            if isinstance(outcome, Described):
                self._ledger.finish(unit.id, dict(unit.result) | {"again": outcome.to_dict()})

    def _outcomes(self, on_caption: OnCaption) -> Iterator[tuple[Unit, Described | KinemaError]]:
        if self._job.runner == "local":
            return self._session.drain(self._feed(self._claimed(), on_caption))
        describe = RUNNERS.load(self._job.runner)
        units = (unit for unit, _ in self._claimed())
        ended: Iterator[tuple[Unit, Described | KinemaError]] = describe(
            units,
            self._job.work,
            self._session,
            workers=self._job.workers,
            on_caption=on_caption,
        )
        return ended

    def _claimed(self) -> Iterator[tuple[Unit, frozenset[int]]]:
        while units := self._ledger.claim():
            yield units[0], frozenset()

    def _feed(
        self, units: Iterator[tuple[Unit, frozenset[int]]], on_caption: OnCaption = unheard
    ) -> Feed:
        return Feed(
            self._videos(units),
            asker=self._session.asker,
            memo=self._session.memo,
            engine=self._session.engine,
            pool=self._pool,
            ahead=max(_AHEAD, 2 * self._job.workers),
            on_caption=on_caption,
        )

    def _videos(
        self, units: Iterator[tuple[Unit, frozenset[int]]]
    ) -> Iterator[Video | tuple[Unit, KinemaError]]:
        planned = read_ahead(self._pool, self._plan, units, depth=self._job.workers)
        for unit, again, plan in planned:
            if isinstance(plan, KinemaError):
                yield unit, plan
            else:
                steps = self._session.describer.steps(plan, again=again)
                yield Video(unit, plan.source, steps)

    def _plan(
        self, work: tuple[Unit, frozenset[int]]
    ) -> tuple[Unit, frozenset[int], VideoPlan | KinemaError]:
        """Look at a video, in a thread."""
        unit, again = work
        try:
            return unit, again, self._planner.plan(unit.payload["source"])
        except KinemaError as problem:
            return unit, again, problem

    def _settle(self, unit: Unit, outcome: Described | KinemaError) -> None:
        """Write down how a video ended; result and state become true together."""
        if isinstance(outcome, Described):
            self._ledger.finish(unit.id, outcome.to_dict())
        elif isinstance(outcome, NoVideoStream):
            self._ledger.skip(unit.id, _sentence(outcome))
        elif isinstance(outcome, DecoderCrashed) and unit.attempts >= _TRIES:
            self._ledger.quarantine(unit.id, _sentence(outcome))
        else:
            self._ledger.fail(unit.id, _sentence(outcome), retry=_may_pass(unit, outcome))


def _may_pass(unit: Unit, problem: KinemaError) -> bool:
    """Whether another attempt may end better; what is wrong with a file stays wrong."""
    stays = isinstance(problem, MediaError) and not isinstance(
        problem, DecoderCrashed | DecodeDeadline
    )
    return unit.attempts < _TRIES and not stays


def unit_of(one: VideoInput) -> str:
    """The ledger's id of a video: where it is and when it changed."""
    return fingerprint({"source": one.source, "stamp": one.stamp})


def _result(one: VideoInput, unit: Unit | None) -> Described:
    if unit is not None and unit.state == "done":
        return Described.from_dict(unit.result.get("again", unit.result))
    states: dict[str, Status] = {"skipped": "skipped", "quarantined": "quarantined"}
    status = states.get(unit.state if unit else "", "failed")
    error = (unit.error if unit else None) or "not reached"
    return Described(VideoRecord(source=one.source, status=status, error=error), Timings())


def _sentence(error: KinemaError) -> str:
    return " ".join(filter(None, (str(error), error.hint)))
