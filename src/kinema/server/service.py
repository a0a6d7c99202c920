"""What API and web page share: models and their engines, the media gate, uploads and jobs."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from kinema import prompt as prompts
from kinema.errors import KinemaError, TooLarge
from kinema.messages import Conversation, ImagePart, Part, SamplingParams, VideoPart
from kinema.server.backend import Backend, Piece, Question
from kinema.server.captions import CaptionJobs
from kinema.server.errors import UnknownModel
from kinema.server.files import FileStore, StoredFile
from kinema.server.limits import Admission, ServerSettings
from kinema.server.media import MediaReader, renamed
from kinema.server.metrics import Metrics
from kinema.server.parts import conversation_of, params_of
from kinema.server.schema import ChatRequest
from kinema.tasks.models import current_name
from kinema.types import Frames, FrameSampling, Source

EXAMPLE = Path(__file__).parent / "page" / "example.mp4"
_FIRST = FrameSampling(single="first")


class Service:
    """Answers conversations.

    Args:
        backends: the models, the default first; the service closes them.
        settings: how much it takes on.
    """

    def __init__(self, backends: Sequence[Backend], settings: ServerSettings) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.settings = settings
        self.admission = Admission(settings.max_requests)
        self.metrics = Metrics()
        self.folder = Path(tempfile.mkdtemp(prefix="kinema-serve-"))
        """For uploads and whatever else is there while the server runs."""
        self.files = FileStore(self.folder, settings)
        self.captions = CaptionJobs(self.folder)
        self._media = MediaReader(settings, self.folder)
        self._example: StoredFile | None = None
        self.metrics.watch(
            "requests_waiting",
            "Not begun yet.",
            lambda: float(sum(b.scheduler.num_waiting for b in self.backends.values())),
        )
        self.metrics.watch(
            "requests_running",
            "In an engine.",
            lambda: float(sum(b.scheduler.num_running for b in self.backends.values())),
        )

    def find(self, name: str) -> Backend:
        """The model that callers call ``name``.

        Raises:
            UnknownModel: there is none.
        """
        for backend in self.backends.values():
            if current_name(name) in (backend.name, backend.model.name):
                return backend
        raise UnknownModel(
            "This server does not have the model that was asked for.",
            hint=f"It serves {', '.join(self.backends)}.",
        )

    async def read_question(self, body: ChatRequest) -> tuple[Question, Backend]:
        """What the body of a request asks, with its media read, and the model that is asked.

        Raises:
            UnknownModel: a model that is not served.
            UsageError: the body contradicts itself.
            MediaError: a source cannot be used.
        """
        backend = self.find(body.model)
        conversation = conversation_of(body, lambda file_id: self.files.get(file_id).path)
        params = params_of(body)
        return await self.read(
            conversation, params, backend=backend, n=body.n, fit=body.fit
        ), backend

    async def read(
        self,
        conversation: Conversation,
        params: SamplingParams,
        *,
        backend: Backend,
        n: int = 1,
        fit: bool = False,
    ) -> Question:
        """The conversation with its media read, ready to be answered by ``backend``.

        Raises:
            MediaError: a source cannot be used.
            MissingCapability: the model does not take this kind of medium.
            TooLarge: more frames in all than one request may hold.
        """
        family = backend.model.family
        with backend.scheduler.arriving():
            sampling = family.default_sampling
            messages = []
            for message in conversation.messages:
                parts = (self._read_part(part, sampling) for part in message.parts)
                messages.append(replace(message, parts=tuple(await asyncio.gather(*parts))))
            read = prompts.decode(Conversation(tuple(messages)), family)
            question = Question(read, params, n, fit)
        count, allowed = sum(map(len, question.frames)), self._media.access.budget.frames
        if count > allowed:
            raise TooLarge(
                f"The request shows {count} frames.", hint=f"{allowed} are allowed in all."
            )
        self.metrics.frames.inc(count)
        return question

    async def answer(
        self, question: Question, backend: Backend, *, streamed: bool = False
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of the answers, mixed, counted; see :meth:`Backend.answer`."""
        async with aclosing(backend.answer(question, streamed=streamed)) as pieces:
            async for piece in pieces:
                if piece.answered is not None:
                    self.metrics.count(piece.answered.completion)
                yield piece

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
        for backend in self.backends.values():
            backend.close()
        self._media.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _read_part(self, part: Part, default: FrameSampling) -> Part:
        if isinstance(part, VideoPart):
            sampling = part.sampling.or_default(default)
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
