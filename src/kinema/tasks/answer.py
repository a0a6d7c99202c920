"""A file of prompts over a folder or tar of videos, answered in order and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from kinema import prompt as prompts
from kinema.config import fingerprint
from kinema.engines import EngineSettings, Generates, world_size
from kinema.errors import KinemaError, UsageError
from kinema.files import FEATURES_SUFFIX
from kinema.ledger import Ledger, Unit
from kinema.messages import (
    Completion,
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.answer_record import final_record, seen_by, spoken, with_name, without_ends
from kinema.tasks.models import Model
from kinema.tasks.prompts_file import (
    MediaBase,
    MediaType,
    Question,
    read_records,
    understand,
    write_records,
)
from kinema.types import FrameSampling
from kinema.video import Workers

_MAX_ATTEMPTS = 25
"""A run may be killed this often in the middle of one record before the record is given up."""


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
    batch_size: int = 8
    """Records that are decoded and given to the engine together."""
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

    def run(self, on_answer: Callable[[Progress], None] = lambda progress: None) -> int:
        """Answer every record and write the output file.

        Args:
            on_answer: told each record as it is done.

        Returns:
            How many records failed.

        Raises:
            UsageError: the prompt file cannot be read, or the output belongs to another job.
        """
        records = read_records(self.prompt_file)
        units = _units(records, self._base)
        path = self.output.with_name(f".{self.output.name}.ledger")
        with Ledger(
            path, settings=self._fingerprinted(), max_attempts=_MAX_ATTEMPTS, restart=self.force
        ) as ledger:
            ledger.add((unit, records[i]) for unit, i in _by_medium(units, records))
            self._work(ledger, _counts(records), on_answer)
            done = {unit.id: unit for unit in ledger.units()}
            written = [final_record(records[i], done[unit]) for unit, i in units]
        write_records(self.output, written)
        return sum(record["error"] is not None for record in written)

    @cached_property
    def _base(self) -> MediaBase:
        return MediaBase(self.options.media_base_path)

    @property
    def _together(self) -> int:
        """Sampled answers are made one by one: their neighbours would change them."""
        return self.options.batch_size if self.params.temperature == 0 else 1

    def _fingerprinted(self) -> dict[str, Any]:
        """Batching is left out, so that a job that ran out of memory goes on with less of it."""
        options = vars(self.options) | {"batch_size": None}
        return {
            "model": self.model.name,
            "parts": {k: str(v) for k, v in vars(self.model.parts).items() if v is not None},
            "engine": self.model.engine,
            "params": self.params.to_dict(),
            "sampling": self.sampling.to_dict(),
            "dtype": self.settings.dtype,
            "options": {k: str(v) for k, v in options.items() if v is not None},
        }

    def _work(
        self,
        ledger: Ledger,
        counts: Mapping[str, int],
        on_answer: Callable[[Progress], None],
    ) -> None:
        worker = _Worker(self, self._base)
        seen: dict[str, int] = {}
        try:
            for batch in worker.read_ahead(iter(lambda: ledger.claim(self._together), [])):
                units = [unit for unit, _ in batch]
                answers, errors = _sorted_out(units, worker.answer(batch))
                ledger.settle(answers, errors)
                for record in answers.values():
                    medium = _medium_of(record)
                    seen[medium] = seen.get(medium, 0) + 1
                    on_answer(Progress(seen[medium], counts[medium], record))
        finally:
            worker.close()


_Read = tuple[Unit, Conversation | KinemaError]
"""A unit and what is said to the model, its medium decoded, or why that cannot be."""


class _Worker:
    """Turns units into records; loads the model when the first one is ready for it."""

    def __init__(self, job: AnswerJob, base: MediaBase) -> None:
        self._job = job
        self._base = base
        self._engine: Generates | None = None
        self._medium: tuple[str, Part] | None = None
        if world_size() > 1:
            self._open()  # the other processes of a torchrun wait for this one
        self._decoders = Workers(1)
        self._load = partial(self._decoders.load_frames, strict=job.options.strict)

    def read_ahead(self, batches: Iterator[Sequence[Unit]]) -> Iterator[list[_Read]]:
        """Batches with their media, the next one being read while this one is answered."""
        with ThreadPoolExecutor(1, thread_name_prefix="kinema-read") as pool:
            coming: Future[list[_Read]] | None = None
            for batch in batches:
                reading = pool.submit(self._read, batch)
                if coming is not None:
                    yield coming.result()
                coming = reading
            if coming is not None:
                yield coming.result()

    def _read(self, units: Sequence[Unit]) -> list[_Read]:
        return [(unit, self._conversation_or_error(unit)) for unit in units]

    def _conversation_or_error(self, unit: Unit) -> Conversation | KinemaError:
        options = self._job.options
        try:
            question = understand(
                unit.payload,
                media_type=options.media_type,
                insert=options.insert_media_token,
                separator=" \n" if options.add_media_sep else "",
            )
            return self._conversation(question)
        except KinemaError as error:
            return error

    def answer(self, batch: Sequence[_Read]) -> Iterator[tuple[Unit, dict[str, Any] | KinemaError]]:
        """Each unit with its record or what went wrong; one that fails harms no other."""
        ready: dict[str, tuple[Unit, Request]] = {}
        for unit, said in batch:
            try:
                if isinstance(said, KinemaError):
                    raise said
                ready[unit.id] = (unit, self._request(unit, said))
            except KinemaError as error:
                yield unit, error
        for request_id, completion in self._generate([request for _, request in ready.values()]):
            unit, request = ready[request_id]
            if isinstance(completion, KinemaError):
                yield unit, completion
            elif completion.finish_reason == "error":
                yield unit, KinemaError(completion.error or "The engine failed.")
            else:
                yield unit, self._record(unit.payload, request, completion)

    def close(self) -> None:
        """Give the engine's memory back and end the decoder."""
        self._decoders.close()
        if self._engine is not None:
            self._engine.close()

    def _request(self, unit: Unit, conversation: Conversation) -> Request:
        job = self._job

        def prepare(said: Conversation) -> Request:
            prepared = prompts.prepare(
                said,
                family=job.model.family,
                checkpoint=job.model.checkpoint,
                params=job.params,
                request_id=unit.id,
            )
            return self._with_bos(prepared)

        engine = self._open()
        request, _ = prompts.fit(
            prepare(conversation),
            count=engine.count_tokens,
            context_length=engine.context_length,
            reprepare=prepare,
        )
        return request

    def _conversation(self, question: Question) -> Conversation:
        parts: tuple[Part, ...] = (TextPart(question.text),)
        if question.kind is not None:
            before, after = question.text.split(f"<{question.kind}>")
            medium = self._look(question)
            words = (TextPart(before) if before else None, TextPart(after) if after else None)
            parts = tuple(part for part in (words[0], medium, words[1]) if part is not None)
        return Conversation((Message("user", parts, between=""),))

    def _look(self, question: Question) -> Part:
        """The medium, decoded; the last one is kept, since its prompts stand together."""
        key = f"{question.kind} {question.medium}"
        if self._medium is None or self._medium[0] != key:
            source = self._base.find(question.medium)
            said = Conversation((Message("user", (self._part(question.kind, source),)),))
            decoded = prompts.decode(said, self._job.model.family, load=self._load)
            self._medium = (key, with_name(decoded.messages[0].parts[0], question.medium))
        return self._medium[1]

    def _part(self, kind: str | None, source: Path | bytes) -> Part:
        if kind == "image":
            return ImagePart(source)
        if isinstance(source, Path) and source.suffix.lower() == FEATURES_SUFFIX:
            return FeaturesPart(source)
        return VideoPart(source, self._job.sampling)

    def _with_bos(self, request: Request) -> Request:
        bos = (self._job.model.checkpoint.special_tokens or {}).get("bos_token", "")
        if not self._job.options.add_bos or request.prompt.text.startswith(bos):
            return request
        return replace(request, prompt=replace(request.prompt, text=bos + request.prompt.text))

    def _open(self) -> Generates:
        if self._engine is None:
            self._engine = self._job.model.open(self._job.settings)
        return self._engine

    def _generate(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[str, Completion | KinemaError]]:
        """Completions of a batch; where the batch fails, each request by itself."""
        if not requests:
            return
        try:
            completions = list(self._open().generate(requests))
        except KinemaError as error:
            if len(requests) == 1:
                yield requests[0].id, error
                return
            for request in requests:
                yield from self._generate([request])
        else:
            yield from ((completion.request_id, completion) for completion in completions)

    def _record(
        self, payload: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        job = self._job
        question = understand(
            payload,
            media_type=job.options.media_type,
            insert=job.options.insert_media_token,
            separator=" \n" if job.options.add_media_sep else "",
        )
        answer = without_ends(completion.text, job.params.stop)
        record = {
            **payload,
            "prompt": question.text,
            "full_text": spoken(request.prompt) + completion.text,
            "pred_answer": answer,
            "model_id": job.options.model_id or job.model.name,
            "answer_id": payload.get("answer_id", 0),
            "metadata": payload.get("metadata", {}),
            "frames": [seen.to_dict() for seen in seen_by(request)],
            "usage": vars(completion.usage).copy(),
            "finish_reason": completion.finish_reason,
            "error": None,
        }
        if completion.logprobs is not None:
            record["logprobs"] = [vars(token).copy() for token in completion.logprobs]
        return record


def _sorted_out(
    batch: Sequence[Unit], outcomes: Iterable[tuple[Unit, dict[str, Any] | KinemaError]]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Records and error sentences by unit, in the order of the batch."""
    by_unit = {unit.id: outcome for unit, outcome in outcomes}
    ordered = [(unit.id, by_unit[unit.id]) for unit in batch]
    answers = {i: found for i, found in ordered if not isinstance(found, KinemaError)}
    errors = {i: _sentence(found) for i, found in ordered if isinstance(found, KinemaError)}
    return answers, errors


def _units(records: Sequence[Any], base: MediaBase) -> list[tuple[str, int]]:
    """Ids and indices of the records: place, content, and the state of their medium."""
    return [
        (f"{i:08d}-{fingerprint({'record': record, 'medium': _stamp(record, base)})}", i)
        for i, record in enumerate(records)
    ]


def _stamp(record: Any, base: MediaBase) -> str:
    medium = _medium_of(record)
    return base.stamp(medium) if medium else ""


def _medium_of(record: Any) -> str:
    if not isinstance(record, Mapping):
        return ""
    return str(record.get("video") or record.get("image") or "")


def _by_medium(units: Sequence[tuple[str, int]], records: Sequence[Any]) -> list[tuple[str, int]]:
    """Prompts of one medium together, media in the order they are first named."""
    first: dict[str, int] = {}
    for _, i in units:
        first.setdefault(_medium_of(records[i]), i)
    return sorted(units, key=lambda unit: (first[_medium_of(records[unit[1]])], unit[1]))


def _counts(records: Sequence[Any]) -> dict[str, int]:
    media = [_medium_of(record) for record in records]
    return {medium: media.count(medium) for medium in media}


def _sentence(error: KinemaError) -> str:
    return " ".join(filter(None, (str(error), error.hint)))


def check_output(prompt_file: Path, output: Path) -> None:
    """Refuse an output that would overwrite the questions or cannot be written."""
    if output.resolve() == prompt_file.resolve():
        raise UsageError("The output is the prompt file itself.", hint="Choose another --output.")
    if not output.parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", hint="Make it first.")
