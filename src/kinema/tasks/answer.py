"""A file of prompts over a folder or tar of videos, answered in order and resumable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from kinema.config import fingerprint
from kinema.engines import EngineSettings, world_size
from kinema.errors import KinemaError, UsageError
from kinema.files import FEATURES_SUFFIX, refuse_foreign
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.runner import unfinished, work_off
from kinema.jobs.site import Site
from kinema.messages import (
    Ask,
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    Part,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.answer_record import answered_record, final_record
from kinema.tasks.deciding import model_identity
from kinema.tasks.models import Model
from kinema.tasks.prompts_file import (
    MediaBase,
    MediaType,
    Question,
    read_records,
    understand,
    write_records,
)
from kinema.tasks.site import Runner, check_site, open_site, window_of
from kinema.types import FrameSampling

_ENDED = ("done", "failed", "quarantined")
"""States of records that an output holds although this run does not ask for them."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How records become requests."""

    media_base_path: Path | None = None
    """Folder or tar that the records' media are relative to."""
    media_type: MediaType = "auto"
    """Which field names the medium: video, image, or whichever is there."""
    insert_media_token: Literal["left", "right"] | None = None
    """Put the placeholder before or behind the words; else they must hold it."""
    add_media_sep: bool = False
    """Put " \\n" behind an inserted placeholder."""
    add_bos: bool = False
    """Begin every prompt with the tokenizer's begin mark."""
    strict: bool = False
    """Refuse a damaged video instead of showing the frames that could be decoded."""
    model_id: str = ""
    """What records call the model; its name when empty."""


@dataclass(frozen=True)
class Progress:
    """One record that was just finished."""

    number: int
    """Counted from one, among the prompts of the same medium."""
    of: int
    record: Mapping[str, Any]


@dataclass
class AnswerJob:
    """Everything that decides the answers to one file.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    prompt_file: Path
    output: Path
    model: Model
    params: SamplingParams = field(default_factory=SamplingParams)
    settings: EngineSettings = field(default_factory=EngineSettings)
    options: AnswerOptions = field(default_factory=AnswerOptions)
    sampling: FrameSampling = field(default_factory=FrameSampling)
    force: bool = False
    """Forget the answers that another run with other settings left."""
    retry_failed: bool = False
    """Try records again that failed in an earlier run."""
    workers: int = 2
    """Processes that decode; with the runner ray, actors that have an engine each."""
    runner: Runner = "local"
    """This process, or a Ray cluster; the records are the same."""
    limit: int | None = None
    """Only so many of the first records; what others were answered before stays written."""

    def run(self, on_answer: Callable[[Progress], None] = lambda progress: None) -> int:
        """Answer every record and write the output file, also when the run has to stop early.

        Args:
            on_answer: told each record as it is done.

        Returns:
            How many records failed.

        Raises:
            UsageError: the prompt file cannot be read, or the output belongs to another job or is
                none of kinema's.
            MissingPackage: the engine or the runner is not installed.
            Unfinished: the engine or the run failed; records without an answer say so.
        """
        check_site(self.model, self.settings, self.runner)
        check_output(self.output, force=self.force)
        records = read_records(self.prompt_file)
        units = _units(records, self._base)
        asked = units[: self.limit]
        with Ledger(_ledger_of(self.output), settings=self._decided, restart=self.force) as ledger:
            entered = ((unit, records[i]) for unit, i in _by_medium(asked, records))
            ledger.enter(entered, retry_failed=self.retry_failed)
            problem = self._work(ledger, _counts(records[: self.limit]), on_answer)
            ended = {unit.id: unit for unit in ledger.units()}
            written = [final_record(records[i], ended[unit], problem) for unit, i in asked]
            others = [(ended[unit], i) for unit, i in units[len(asked) :] if unit in ended]
            kept = [final_record(records[i], unit) for unit, i in others if unit.state in _ENDED]
            write_records(self.output, [*written, *kept])
            if problem is not None:
                raise unfinished(problem, ledger, noun="records") from problem
        return sum(record["error"] is not None for record in written)

    @cached_property
    def _base(self) -> MediaBase:
        return MediaBase(self.options.media_base_path)

    @cached_property
    def _decided(self) -> dict[str, Any]:
        """Everything that decides an answer, ready for JSON.

        How requests are batched is left out, so that a job that ran out of memory goes on with
        less of it.
        """
        return {
            "model": model_identity(self.model, self.settings),
            "params": self.params.to_dict(),
            "sampling": self.sampling.to_dict(),
            "options": {k: str(v) for k, v in vars(self.options).items() if v is not None},
        }

    @cached_property
    def _key(self) -> str:
        return fingerprint(self._decided)

    def _work(
        self, ledger: Ledger, counts: Mapping[str, int], on_answer: Callable[[Progress], None]
    ) -> KinemaError | None:
        """Answer what is to do; returns what ended the run early."""
        if not ledger.counts().get("todo") and world_size() == 1:
            return None  # in several processes the others wait for this one to open the model
        engines = self.workers if self.runner == "ray" else 1
        window = engines * window_of(self.model.engine, self.settings)
        seen: Counter[str] = Counter()

        def report(unit: Unit, outcome: Outcome | KinemaError) -> None:
            if isinstance(outcome, Outcome):
                medium = _medium_of(unit.payload)
                seen[medium] += 1
                on_answer(Progress(seen[medium], counts[medium], outcome.result))

        site = open_site(
            self.model,
            self.settings,
            runner=self.runner,
            workers=self.workers,
            strict=self.options.strict,
        )
        return work_off(
            lambda opened: partial(self._answer, opened),
            site,
            ledger=ledger,
            window=window,
            report=report,
        )

    async def _answer(self, site: Site, unit: Unit) -> Outcome:
        """The story of one record: what it asks, what the model says, what is written."""
        question = understand(
            unit.payload,
            media_type=self.options.media_type,
            insert=self.options.insert_media_token,
            separator=" \n" if self.options.add_media_sep else "",
        )
        ask = Ask(
            key=f"{unit.id}-{self._key}",
            conversation=self._conversation(question),
            params=self.params,
            add_bos=self.options.add_bos,
        )
        reply = await site.answer(ask)
        model_id = self.options.model_id or self.model.name
        return Outcome(
            answered_record(
                unit.payload, question.text, reply, model_id=model_id, ends=self.params.stop
            )
        )

    def _conversation(self, question: Question) -> Conversation:
        if question.kind is None:
            parts: tuple[Part, ...] = (TextPart(question.text),)
        else:
            before, after = map(TextPart, question.text.split(f"<{question.kind}>"))
            around = (before, self._medium(question), after)
            parts = tuple(part for part in around if part != TextPart(""))
        return Conversation((Message("user", parts, between=""),))

    def _medium(self, question: Question) -> Part:
        source = self._base.find(question.medium)
        if question.kind == "image":
            return ImagePart(source, name=question.medium)
        if isinstance(source, Path) and source.suffix.lower() == FEATURES_SUFFIX:
            return FeaturesPart(source)
        return VideoPart(source, self.sampling, name=question.medium)


def _units(records: Sequence[Any], base: MediaBase) -> list[tuple[str, int]]:
    """Ids and indices of the records: place, content, and the state of their medium."""
    stamps = {medium: base.stamp(medium) for medium in set(map(_medium_of, records)) if medium}
    return [
        (f"{i:08d}-{fingerprint({'record': r, 'medium': stamps.get(_medium_of(r), '')})}", i)
        for i, r in enumerate(records)
    ]


def _medium_of(record: Any) -> str:
    if not isinstance(record, Mapping):
        return ""
    return str(record.get("video") or record.get("image") or "")


def _by_medium(units: Sequence[tuple[str, int]], records: Sequence[Any]) -> list[tuple[str, int]]:
    """Prompts of one medium together, media in the order they are first named.

    So a medium is decoded once, and the engine can share what its prompts begin with.
    """
    first: dict[str, int] = {}
    for _, i in units:
        first.setdefault(_medium_of(records[i]), i)
    return sorted(units, key=lambda unit: (first[_medium_of(records[unit[1]])], unit[1]))


def _counts(records: Sequence[Any]) -> Counter[str]:
    """Prompts of each medium."""
    return Counter(map(_medium_of, records))


def _ledger_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.ledger")


def check_output(output: Path, *, force: bool) -> None:
    """Refuse an output that is there and that no job of ours has written.

    Raises:
        UsageError: it holds something, and is not to be lost.
    """
    if not _ledger_of(output).exists():
        refuse_foreign([output], force=force)


def check_files(prompt_file: Path, output: Path, *, force: bool = False) -> None:
    """Look at what is read and where it goes, before anything is loaded or written.

    Raises:
        UsageError: the prompt file cannot be read or holds no record, or the output would
            overwrite it or a file that is none of kinema's, or cannot be written.
    """
    if output.resolve() == prompt_file.resolve():
        raise UsageError("The output is the prompt file itself.", hint="Choose another --output.")
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", hint="Give a file to --output.")
    if not output.parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", hint="Make it first.")
    check_output(output, force=force)
    if not read_records(prompt_file):
        raise UsageError(f"{prompt_file} holds no record.", hint="Give one object a prompt.")
