"""Captions for many videos, against a ledger: stopped at any instant, it goes on where it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kinema.captioning.quality import worst
from kinema.captioning.records import Segment, Status, VideoRecord
from kinema.captioning.result import Timings
from kinema.config import fingerprint
from kinema.engines.scheduler import Scheduler
from kinema.errors import KinemaError
from kinema.files import stamp_of, unchanged
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.inputs import VideoInput
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter, OnProgress
from kinema.jobs.runner import Stoppable, unfinished, work_off
from kinema.tasks.caption.settings import CaptionSettings
from kinema.tasks.caption.story import Described, Storyteller
from kinema.tasks.site import JobSettings, check_runner, check_site, open_site
from kinema.video.cues import require_one_video, stamp_of_subtitles

_VIDEOS_AHEAD = 8
"""Videos that are begun at one time, so that short ones fill a batch together."""


@dataclass(frozen=True, kw_only=True)
class CaptionJob(JobSettings):
    """Videos, everything that decides their captions, and where the work is kept.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    inputs: Sequence[VideoInput]
    state: Path
    """Folder of the ledger and, when ``answers`` is not given, of the model's answers."""
    say: CaptionSettings
    answers: Path | None = None
    """File of answers that runs may share; the same question is asked once for all of them."""
    limit: int | None = None
    """Only so many of the first videos; what others were described before stays in the outputs."""
    tag: str = ""
    """Part of the ledger's name, so that shards can share a folder."""
    recaption: float | None = None
    """Ask again for this share of all captions, the worst ones."""
    scheduler: Scheduler | None = None
    """Of an engine that is open already, as a server's; it stays open."""
    max_requests: int | None = None
    """Questions under way at one time; by the engine's batch size when None."""
    _stop: Stoppable = field(default_factory=Stoppable, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_runner(self.runner)

    def run(self, on_progress: OnProgress = lambda progress: None) -> None:
        """Describe every video.

        Raises:
            UsageError: the state belongs to a job with other settings, or another process has it.
            Unfinished: the engine, the network or the run failed; videos are still to do.
            Cancelled: :meth:`cancel` was called.
        """
        check_site(self.say.model, self.say.engine, self.runner)
        require_one_video(self.say.options.subtitles, len(self.asked))
        decided = self.say.record
        self.state.mkdir(parents=True, exist_ok=True)
        path = self._ledger_path
        with Ledger(path, settings=decided, anew=self.force, noun="videos") as ledger:
            units = [(self.unit_of(one), {"source": one.source}) for one in self.asked]
            ledger.enter(units, retry_failed=self.retry_failed)
            files = {self.unit_of(one): (one.file, stamp_of(one.file)) for one in self.asked}
            meter = Meter(ledger, on_progress)

            async def one(teller: Storyteller, unit: Unit) -> Outcome:
                def told(segment: Segment, of: int) -> None:
                    seconds = segment.end_seconds - segment.start_seconds
                    meter.part(unit, 1 / of, video_seconds=seconds)

                with unchanged(*files[unit.id]):
                    described = await teller.describe(
                        unit.payload["source"], told=told, may_try_again=unit.may_try_again
                    )
                return _outcome(described)

            async def again(teller: Storyteller) -> None:
                await self._describe_again(teller, ledger)

            problem = work_off(
                one,
                self._storyteller(),
                meter,
                window=_VIDEOS_AHEAD,
                last=None if self.recaption is None else again,
                stop=self._stop,
            )
            if problem is not None:
                raise unfinished(problem, ledger) from problem

    def cancel(self) -> None:
        """Stop :meth:`run`, from any thread."""
        self._stop.cancel()

    def results(self) -> Iterator[Described]:
        """What is known about each video, in the order of :meth:`known`; ended or not."""
        with Ledger(self._ledger_path, settings=self.say.record) as ledger:
            yield from (_result(one, ledger.get(self.unit_of(one))) for one in self._known(ledger))

    def known(self) -> list[VideoInput]:
        """The videos that are asked for, then those beyond the limit that were described before."""
        with Ledger(self._ledger_path, settings=self.say.record) as ledger:
            return list(self._known(ledger))

    def unit_of(self, one: VideoInput) -> str:
        """The ledger's id of a video: where it is and when it changed, or its subtitles did."""
        about = {"source": one.source, "stamp": one.stamp}
        if beside := stamp_of_subtitles(one.file, self.say.options.subtitles):
            about["subtitles"] = beside
        return fingerprint(about)

    @property
    def asked(self) -> Sequence[VideoInput]:
        """The videos of this run."""
        return self.inputs[: self.limit]

    def _known(self, ledger: Ledger) -> Iterator[VideoInput]:
        yield from self.asked
        for one in self.inputs[len(self.asked) :]:
            unit = ledger.get(self.unit_of(one))
            if unit is not None and unit.state in ("done", "partial"):
                yield one

    @contextmanager
    def _storyteller(self) -> Iterator[Storyteller]:
        say = self.say
        room = self.max_requests or self.window(say.model.engine, say.engine)
        own = self.state / "answers.sqlite"
        with (
            AnswerCache(self.answers or own, anew=self.force and not self.answers) as answers,
            open_site(
                say.model, say.engine, self, answers=answers, scheduler=self.scheduler
            ) as site,
        ):
            yield Storyteller(site, say, answers, room=room)

    async def _describe_again(self, teller: Storyteller, ledger: Ledger) -> None:
        """The worst captions once more; records of first answers stay beside the new ones."""
        units = {u.payload["source"]: u for s in ("done", "partial") for u in ledger.units(s)}
        first = (Described.from_dict(unit.result).record for unit in units.values())
        for source, segments in sorted(worst(first, self.recaption or 0.0).items()):
            unit = units[source]
            try:
                found = await teller.describe(source, again=segments)
            except KinemaError as problem:
                if problem.blame in ("engine", "run"):
                    raise
                continue  # the first answers stay
            ledger.finish(unit, _outcome(found, dict(unit.result)))

    @property
    def _ledger_path(self) -> Path:
        return self.state / f"videos{self.tag}.sqlite"


def _outcome(described: Described, first: dict[str, object] | None = None) -> Outcome:
    """What the ledger keeps of a video, behind what it kept of it ``first``."""
    made = described.to_dict()
    is_partial = described.record.status == "partial"
    return Outcome(made if first is None else first | {"again": made}, is_partial=is_partial)


def _result(one: VideoInput, unit: Unit | None) -> Described:
    if unit is not None and unit.state in ("done", "partial"):
        return Described.from_dict(unit.result.get("again", unit.result))
    states: dict[str, Status] = {"skipped": "skipped", "quarantined": "quarantined"}
    status = states.get(unit.state if unit else "", "failed")
    error = (unit.error if unit else None) or "not reached"
    return Described(VideoRecord(source=one.source, status=status, error=error), Timings())
