"""What API and web page share: one model, its engine, the media gate and the uploads."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from kinema import prompt as prompts
from kinema.engines import Generates
from kinema.errors import KinemaError, TooLarge
from kinema.messages import (
    Conversation,
    Delta,
    ImagePart,
    Message,
    Part,
    Request,
    SamplingParams,
    VideoPart,
)
from kinema.server.batcher import Batcher
from kinema.server.captions import CaptionJobs
from kinema.server.files import FileStore, StoredFile
from kinema.server.lending import LentEngine
from kinema.server.limits import Admission, ServerSettings
from kinema.server.media import MediaReader, renamed
from kinema.server.metrics import Metrics
from kinema.tasks.models import Model
from kinema.types import Frames, FrameSampling, Source

_LENT = 4
"""Requests of a caption job that wait or run at once; the rest of a batch is for others."""
EXAMPLE = Path(__file__).parent / "page" / "example.mp4"
_FIRST = FrameSampling(single="first")


@dataclass(frozen=True)
class Question:
    """One request of a caller: what is said, with its media read."""

    id: str
    conversation: Conversation
    params: SamplingParams
    n: int = 1
    fit: bool = False

    @property
    def request_ids(self) -> list[str]:
        """One for each answer that is asked for."""
        return [f"{self.id}-{i}" for i in range(self.n)]

    @property
    def frames(self) -> list[Frames]:
        """What the model is shown, in order."""
        parts = (p for p in self.conversation.media if isinstance(p, ImagePart | VideoPart))
        return [part.source for part in parts if isinstance(part.source, Frames)]


class Service:
    """Answers conversations with one model.

    Args:
        model: found, its weights not loaded by this.
        engine: with the model's weights; the service closes it.
        settings: how much it takes on.
    """

    def __init__(self, model: Model, engine: Generates, settings: ServerSettings) -> None:
        self.model = model
        self.settings = settings
        self.name = settings.served_model_name or Path(model.name).name
        self.admission = Admission(settings.max_requests)
        self.metrics = Metrics()
        self._engine = engine
        self._batcher = Batcher(engine)
        self._folder = Path(tempfile.mkdtemp(prefix="kinema-serve-"))
        self.files = FileStore(self._folder, settings)
        self._media = MediaReader(settings, self._folder)
        self.captions = CaptionJobs(model, name=self.name, lend=self._lend, folder=self._folder)
        self._example: StoredFile | None = None
        self.metrics.watch(
            "requests_waiting", "Not begun yet.", lambda: float(self._batcher.num_waiting)
        )
        self.metrics.watch(
            "requests_running", "In the engine.", lambda: float(self._batcher.num_running)
        )

    @property
    def names(self) -> list[str]:
        """What callers may call the models that are served."""
        return [self.name]

    async def read(
        self,
        conversation: Conversation,
        params: SamplingParams,
        *,
        n: int = 1,
        fit: bool = False,
    ) -> Question:
        """The conversation with its media read, ready to be answered.

        Raises:
            MediaError: a source cannot be used.
            MissingCapability: the model does not take this kind of medium.
            TooLarge: more frames in all than one request may hold.
        """
        with self._batcher.arriving():
            messages = [await self._read_message(m) for m in conversation.messages]
            read = prompts.decode(Conversation(tuple(messages)), self.model.family)
            question = Question(secrets.token_hex(12), read, params, n, fit)
            self._check_frames(question)
        for frames in question.frames:
            self.metrics.count_frames(frames)
        return question

    async def answer(self, question: Question) -> AsyncGenerator[Delta, None]:
        """Pieces of the answers, mixed; each one's last delta carries its completion.

        Closing the iterator stops the model.

        Raises:
            KinemaError: the request does not fit the model, or the server is shutting down.
        """
        prepared: dict[str, Request] = {}

        def prepare(request_id: str) -> Request:
            if not prepared:
                prepared[""] = self._fitted(question)
            return _copy(prepared[""], request_id, question.request_ids.index(request_id))

        async with aclosing(self._batcher.answer(question.request_ids, prepare)) as deltas:
            async for delta in deltas:
                if delta.completion is not None:
                    self.metrics.count(delta.completion)
                yield delta

    async def fetch(self, address: str, *, purpose: str = "vision") -> StoredFile:
        """Store what an address leads to, as if it had been uploaded.

        Raises:
            MediaError: it may not be fetched, or does not give anything.
            TooLarge: longer than a file may be.
        """
        name, body = await self._media.fetch(address)
        with body:
            return await self.files.add(
                name, purpose, lambda count: anyio.to_thread.run_sync(body.read, count)
            )

    async def example(self) -> str:
        """The id of the clip that comes with kinema."""
        if self._example is None or not self.files.has(self._example.id):
            self._example = await self.keep(EXAMPLE, name="four_things.mp4")
        return self._example.id

    async def keep(self, path: Path, *, name: str) -> StoredFile:
        """Store a file of this machine, as whoever runs the server wants it."""
        async with await anyio.open_file(path, "rb") as file:
            return await self.files.add(name, "vision", file.read)

    def close(self) -> None:
        """Finish what is under way, then give everything back."""
        self.captions.close()
        self._batcher.close()
        self._media.close()
        self._engine.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lend(self, name: str, is_cancelled: Callable[[], bool]) -> LentEngine:
        return LentEngine(
            self._batcher, self._engine, name=name, most=_LENT, is_cancelled=is_cancelled
        )

    def _fitted(self, question: Question) -> Request:
        def prepare(conversation: Conversation) -> Request:
            return prompts.prepare(
                conversation,
                family=self.model.family,
                checkpoint=self.model.checkpoint,
                params=question.params,
                request_id=question.request_ids[0],
            )

        request, _ = prompts.fit(
            prepare(question.conversation),
            count=self._engine.count_tokens,
            context_length=self._engine.context_length,
            reprepare=prepare,
            reduce=question.fit,
        )
        return request

    async def _read_message(self, message: Message) -> Message:
        parts = await asyncio.gather(*map(self._read_part, message.parts))
        return replace(message, parts=tuple(parts))

    async def _read_part(self, part: Part) -> Part:
        if isinstance(part, VideoPart):
            sampling = part.sampling.or_default(self.model.family.default_sampling)
            return replace(part, source=await self._read_source(part.source, sampling))
        if isinstance(part, ImagePart):
            frames = await self._read_source(part.source, _FIRST)
            return ImagePart(replace(frames, warnings=()))
        return part

    async def _read_source(self, source: Source, sampling: FrameSampling) -> Frames:
        """Frames, an upload called what its sender called it."""
        name = self.files.name_of(source) if isinstance(source, Path) else None
        if name is None:
            return await self._media.read(source, sampling)
        try:
            return replace(await self._media.read(source, sampling), source=name)
        except KinemaError as problem:
            raise renamed(problem, Path(str(source)).name, name) from None

    def _check_frames(self, question: Question) -> None:
        count = sum(map(len, question.frames))
        allowed = self._media.access.budget.frames
        if count > allowed:
            raise TooLarge(
                f"The request shows {count} frames.", hint=f"{allowed} are allowed in all."
            )


def _copy(request: Request, request_id: str, number: int) -> Request:
    """One of the answers to a request: the first is the request itself, the others differ."""
    if request.id == request_id:
        return request
    seed = request.params.seed
    params = replace(request.params, seed=None if seed is None else seed + number)
    return replace(request, id=request_id, params=params)
