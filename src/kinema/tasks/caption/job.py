"""Captions for many videos, against a ledger: stopped at any instant, it goes on where it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.captioning.quality import worst
from kinema.captioning.records import Segment, Status, VideoRecord
from kinema.captioning.result import Timings
from kinema.captioning.segments import SegmentOptions
from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.engines.scheduler import Scheduler
from kinema.errors import KinemaError
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.inputs import VideoInput
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter, Progress
from kinema.jobs.runner import REFUSALS, Stoppable, run, unfinished
from kinema.jobs.site import Site
from kinema.messages import SamplingParams
from kinema.tasks.caption.options import DEFAULT_FPS, CaptionOptions
from kinema.tasks.caption.settings import CaptionSettings
from kinema.tasks.caption.story import Described, Storyteller
from kinema.tasks.models import Model
from kinema.tasks.site import Runner, check_runner, check_site, open_site, window_of
from kinema.types import FrameSampling

_VIDEOS_AHEAD = 8
"""Videos that are begun at one time, so that short ones fill a batch together."""

OnProgress = Callable[[Progress], None]


@dataclass(kw_only=True)
class CaptionJob:
    """Everything that decides the captions of some videos, and where the work is kept.

    Call :meth:`run`; calling it again after a crash goes on where it ended.

    Raises:
        UsageError: the model takes no style, language, schema or summary as asked for.
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
    limit: int | None = None
    """Only so many of the first videos; what others were described before stays in the outputs."""
    tag: str = ""
    """Part of the ledger's name, so that shards can share a folder."""
    workers: int = 2
    """Processes that decode; with the runner ray, actors that have an engine each."""
    runner: Runner = "local"
    """This process, or a Ray cluster; the records are the same."""
    force: bool = False
    """Forget the records that another run with other settings left."""
    retry_failed: bool = False
    """Try those again that failed, or are not whole, in an earlier run."""
    recaption: float | None = None
    """Ask again for this share of all captions, the worst ones."""
    scheduler: Scheduler | None = None
    """Of an engine that is open already, as a server's; it stays open."""
    max_requests: int | None = None
    """Questions under way at one time; by the engine's batch size when None."""
    num_answers: int = field(default=0, init=False)
    """Captions that were made or found so far."""
    _stop: Stoppable = field(default_factory=Stoppable, init=False)

    def __post_init__(self) -> None:
        check_runner(self.runner)
        self.say = CaptionSettings(
            model=self.model,
            engine=self.engine,
            params=self.params,
            options=self.options,
            segments=self.segments,
            sampling=self.sampling.or_default(FrameSampling(fps=DEFAULT_FPS)),
        )

    def run(self, on_progress: OnProgress = lambda progress: None) -> None:
        """Describe every video.

        Raises:
            UsageError: the state belongs to a job with other settings, or another process has it.
            Unfinished: the engine, the network or the run failed; videos are still to do.
            Cancelled: :meth:`cancel` was called.
        """
        check_site(self.model, self.engine, self.runner)
        decided = self.say.record
        self.state.mkdir(parents=True, exist_ok=True)
        with (
            self._ledger(decided) as ledger,
            AnswerCache(self.answers or self.state / "answers.sqlite") as answers,
            open_site(
                self.model,
                self.engine,
                runner=self.runner,
                workers=self.workers,
                answers=answers,
                scheduler=self.scheduler,
            ) as site,
        ):
            try:
                self._stop.run(lambda: self._describe(ledger, site, answers, on_progress))
            except KinemaError as problem:
                refused = isinstance(problem, REFUSALS) and not self.num_answers
                if refused or not ledger.counts().get("todo"):
                    raise
                raise unfinished(problem, ledger, noun="videos") from problem

    def cancel(self) -> None:
        """Stop :meth:`run`, from any thread."""
        self._stop.cancel()

    def results(self) -> Iterator[Described]:
        """What is known about each video, in the order of :meth:`known`; ended or not."""
        with Ledger(self._ledger_path, settings=self.say.record) as ledger:
            yield from (_result(one, ledger.get(unit_of(one))) for one in self._known(ledger))

    def known(self) -> list[VideoInput]:
        """The videos that are asked for, then those beyond the limit that were described before."""
        with Ledger(self._ledger_path, settings=self.say.record) as ledger:
            return list(self._known(ledger))

    @property
    def asked(self) -> Sequence[VideoInput]:
        """The videos of this run."""
        return self.inputs[: self.limit]

    def _known(self, ledger: Ledger) -> Iterator[VideoInput]:
        yield from self.asked
        for one in self.inputs[len(self.asked) :]:
            unit = ledger.get(unit_of(one))
            if unit is not None and unit.state in ("done", "partial"):
                yield one

    async def _describe(
        self, ledger: Ledger, site: Site, answers: AnswerCache, on_progress: OnProgress
    ) -> None:
        teller = Storyteller(site, self.say, answers, room=self._room)
        meter = Meter(ledger, {unit_of(one) for one in self.asked})
        on_progress(meter.begun)

        async def one(unit: Unit) -> Outcome:
            def told(segment: Segment, of: int) -> None:
                self.num_answers += 1
                seconds = segment.end_seconds - segment.start_seconds
                on_progress(meter.part(unit, 1 / of, video_seconds=seconds))

            described = await teller.describe(unit.payload["source"], told=told)
            is_partial = described.record.status == "partial"
            return Outcome(described.to_dict(), is_partial=is_partial)

        def report(unit: Unit, outcome: Outcome | KinemaError) -> None:
            seconds = 0.0
            if isinstance(outcome, Outcome):
                seconds = outcome.result["record"]["duration_seconds"]
            on_progress(meter.ended(unit, outcome, video_seconds=seconds))

        await run(one, ledger=ledger, window=_VIDEOS_AHEAD, report=report)
        if self.recaption is not None:
            await self._describe_again(ledger, teller, self.recaption)

    async def _describe_again(self, ledger: Ledger, teller: Storyteller, share: float) -> None:
        """The worst captions once more; records of first answers stay beside the new ones."""
        units = {u.payload["source"]: u for s in ("done", "partial") for u in ledger.units(s)}
        first = (Described.from_dict(unit.result).record for unit in units.values())
        for source, segments in sorted(worst(first, share).items()):
            unit = units[source]
            try:
                again = await teller.describe(source, again=segments)
            except KinemaError as problem:
                if problem.blame in ("engine", "run"):
                    raise
                continue  # the first answers stay
            result = dict(unit.result) | {"again": again.to_dict()}
            ledger.finish(unit, Outcome(result, is_partial=again.record.status == "partial"))

    @cached_property
    def _room(self) -> int:
        actors = self.workers if self.runner == "ray" else 1
        return self.max_requests or actors * window_of(self.model.engine, self.engine)

    @property
    def _ledger_path(self) -> Path:
        return self.state / f"videos{self.tag}.sqlite"

    def _ledger(self, decided: dict[str, Any]) -> Ledger:
        ledger = Ledger(self._ledger_path, settings=decided, restart=self.force)
        units = [(unit_of(one), {"source": one.source}) for one in self.asked]
        ledger.enter(units, retry_failed=self.retry_failed)
        return ledger


def unit_of(one: VideoInput) -> str:
    """The ledger's id of a video: where it is and when it changed."""
    return fingerprint({"source": one.source, "stamp": one.stamp})


def _result(one: VideoInput, unit: Unit | None) -> Described:
    if unit is not None and unit.state in ("done", "partial"):
        return Described.from_dict(unit.result.get("again", unit.result))
    states: dict[str, Status] = {"skipped": "skipped", "quarantined": "quarantined"}
    status = states.get(unit.state if unit else "", "failed")
    error = (unit.error if unit else None) or "not reached"
    return Described(VideoRecord(source=one.source, status=status, error=error), Timings())
