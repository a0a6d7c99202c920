"""A file of prompts over a folder or tar of videos, answered in order and resumable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.files import FEATURES_SUFFIXES, refuse_foreign, stamp_of, unchanged
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter, OnProgress
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
    medium_of,
    read_records,
    understand,
    write_records,
)
from kinema.tasks.shown_subtitles import ShownSubtitles, subtitles_of
from kinema.tasks.site import JobSettings, check_site, open_site
from kinema.types import FrameSampling
from kinema.video import Workers
from kinema.video.cues import require_one_video, stamp_of_subtitles

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
    subtitles: str | None = None
    """Show the model the subtitles of a video, with their times: auto takes those that players
    show, inside the file or beside it; or a track's number (see `kinema probe`), or a file."""
    model_id: str = ""
    """What records call the model; its name when empty."""


@dataclass(frozen=True)
class AnswerJob(JobSettings):
    """Everything that decides the answers to one file.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    prompt_file: Path
    output: Path
    model: Model
    params: SamplingParams = SamplingParams()
    settings: EngineSettings = EngineSettings()
    options: AnswerOptions = AnswerOptions()
    sampling: FrameSampling = FrameSampling()
    limit: int | None = None
    """Only so many of the first records; what others were answered before stays written."""

    def run(self, on_progress: OnProgress = lambda progress: None) -> int:
        """Answer every record and write the output file, also when the run has to stop early.

        Args:
            on_progress: told each record as it is done.

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
        ids = _unit_ids(records, self._base, self.options.subtitles)
        asked = records[: self.limit]
        require_one_video(self.options.subtitles, len({*map(medium_of, asked)} - {""}))
        path = _ledger_of(self.output)
        with Ledger(path, settings=self._decided, anew=self.force, noun="records") as ledger:
            files = {name: self._base.file(name) for name in set(map(medium_of, asked)) if name}
            stamps = {name: stamp_of(file) for name, file in files.items()}

            async def one(site: Site, unit: Unit) -> Outcome:
                name = medium_of(unit.payload)
                with unchanged(files[name], stamps[name]) if name else nullcontext():
                    return await self._answer(site, unit)

            entered = ((ids[i], records[i]) for i in _by_medium(asked))
            ledger.enter(entered, retry_failed=self.retry_failed)
            problem = work_off(
                one,
                open_site(self.model, self.settings, self, strict=self.options.strict),
                Meter(ledger, on_progress),
                window=self.window(self.model.engine, self.settings),
            )
            ended = {unit.id: unit for unit in ledger.units()}
            written = [
                final_record(record, ended[unit_id], problem)
                for unit_id, record in zip(ids, asked, strict=False)
            ]
            others = zip(ids[len(asked) :], records[len(asked) :], strict=True)
            kept = [
                final_record(record, ended[unit_id])
                for unit_id, record in others
                if unit_id in ended and ended[unit_id].state in _ENDED
            ]
            write_records(self.output, [*written, *kept])
            if problem is not None:
                raise unfinished(problem, ledger) from problem
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
        return self.decided | {
            "model": model_identity(self.model, self.settings),
            "params": self.params.to_dict(),
            "sampling": self.sampling.to_dict(),
            "options": {k: str(v) for k, v in vars(self.options).items() if v is not None},
        }

    @cached_property
    def _key(self) -> str:
        return fingerprint(self._decided)

    async def _answer(self, site: Site, unit: Unit) -> Outcome:
        """The story of one record: what it asks, what the model says, what is written."""
        question = understand(
            unit.payload,
            media_type=self.options.media_type,
            insert=self.options.insert_media_token,
            separator=" \n" if self.options.add_media_sep else "",
        )
        shown = await self._subtitles(site, question)
        about = f"{unit.id}-{self._key}"
        if shown is not None and shown.cues:
            about = f"{about}-{fingerprint({'subtitles': shown.text})}"
        ask = Ask(
            key=about,
            conversation=self._conversation(question, shown),
            params=self.params,
            add_bos=self.options.add_bos,
        )
        reply = await site.answer(ask)
        model_id = self.options.model_id or self.model.name
        return Outcome(
            answered_record(
                unit.payload, question.text, reply, model_id=model_id, ends=self.params.stop
            )
            | ({} if shown is None else {"subtitles": [cue.to_dict() for cue in shown.cues]})
        )

    async def _subtitles(self, site: Site, question: Question) -> ShownSubtitles | None:
        """The subtitles of a record's video; None where they were not asked for."""
        if self.options.subtitles is None or question.kind != "video":
            return None
        part = self._medium(question)
        if not isinstance(part, VideoPart):
            return None
        return await site.look(partial(_read_subtitles, part, self.options.subtitles))

    def _conversation(self, question: Question, shown: ShownSubtitles | None) -> Conversation:
        if question.kind is None:
            parts: tuple[Part, ...] = (TextPart(question.text),)
        else:
            before, after = map(TextPart, question.text.split(f"<{question.kind}>"))
            words = TextPart(f"\n{shown.text}" if shown is not None and shown.cues else "")
            around = (before, self._medium(question), words, after)
            parts = tuple(part for part in around if part != TextPart(""))
        return Conversation((Message("user", parts, between=""),))

    def _medium(self, question: Question) -> Part:
        source = self._base.find(question.medium)
        if question.kind == "image":
            return ImagePart(source, name=question.medium)
        if isinstance(source, Path) and source.suffix.lower() in FEATURES_SUFFIXES:
            return FeaturesPart(source)
        return VideoPart(source, self.sampling, name=question.medium)


def _read_subtitles(part: VideoPart, subtitles: str, workers: Workers) -> ShownSubtitles:
    return subtitles_of(part, subtitles, workers.read_subtitles)


def _unit_ids(records: Sequence[Any], base: MediaBase, subtitles: str | None) -> list[str]:
    """Of each record: its place, its content, and the state of its medium and its subtitles."""
    stamps = {
        medium: base.stamp(medium) + stamp_of_subtitles(base.file(medium), subtitles)
        for medium in set(map(medium_of, records))
        if medium
    }
    return [
        f"{i:08d}-{fingerprint({'record': r, 'medium': stamps.get(medium_of(r), '')})}"
        for i, r in enumerate(records)
    ]


def _by_medium(records: Sequence[Any]) -> list[int]:
    """Places of the records, those of one medium together, media as they are first named.

    So a medium is decoded once, and the engine can share what its prompts begin with.
    """
    first: dict[str, int] = {}
    for i, record in enumerate(records):
        first.setdefault(medium_of(record), i)
    return sorted(range(len(records)), key=lambda i: first[medium_of(records[i])])


def _ledger_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.ledger")


def check_output(output: Path, *, force: bool) -> None:
    """Refuse an output that is there and that no job of ours has written.

    Raises:
        UsageError: it holds something, and is not to be lost.
    """
    if not _ledger_of(output).exists():
        refuse_foreign([output], force=force)


def check_files(
    prompt_file: Path, output: Path, *, media_base_path: Path | None = None, force: bool = False
) -> list[Any]:
    """The records that are read; what is read and where they go is looked at before all else.

    Raises:
        UsageError: the prompt file cannot be read or holds no record, there is no
            ``media_base_path``, or the output would overwrite the prompt file or one that is none
            of kinema's, or cannot be written.
    """
    if output.resolve() == prompt_file.resolve():
        raise UsageError("The output is the prompt file itself.", hint="Choose another --output.")
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", hint="Give a file to --output.")
    if not output.parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", hint="Make it first.")
    if media_base_path is not None and not media_base_path.exists():
        raise UsageError(
            f"There is no folder or tar {media_base_path}.",
            hint="--media-base-path is where the videos and images of the records are.",
        )
    check_output(output, force=force)
    records = read_records(prompt_file)
    if not records:
        raise UsageError(f"{prompt_file} holds no record.", hint="Give one object a prompt.")
    return records
