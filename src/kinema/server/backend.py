"""One of the models that are served: questions go in, pieces of their answers come out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kinema.engines.job import Answered
from kinema.engines.scheduler import Scheduler
from kinema.errors import Busy
from kinema.messages import Ask, Conversation, ImagePart, SamplingParams, VideoPart
from kinema.server.errors import for_strangers
from kinema.tasks.models import Model
from kinema.types import Frames


@dataclass(frozen=True)
class Question:
    """One request of a caller: what is said, with its media read."""

    conversation: Conversation
    params: SamplingParams
    n: int = 1
    fit: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def asks(self) -> list[Ask]:
        """One for each answer that is wanted; with a seed, each has another."""
        seed = self.params.seed
        return [
            Ask(
                key=f"{self.id}-{i}",
                conversation=self.conversation,
                params=replace(self.params, seed=None if seed is None else seed + i),
                fit=self.fit,
            )
            for i in range(self.n)
        ]

    @property
    def frames(self) -> list[Frames]:
        """What the model is to be shown, in order."""
        return frames_of(self.conversation)


def frames_of(conversation: Conversation) -> list[Frames]:
    """The frames of each video and image that was read, in order."""
    parts = (p for p in conversation.media if isinstance(p, ImagePart | VideoPart))
    return [part.source for part in parts if isinstance(part.source, Frames)]


@dataclass(frozen=True)
class Piece:
    """News of one of the answers to a question: more of its text, or its end."""

    index: int
    """Which of the ``n`` answers."""
    text: str = ""
    answered: Answered | None = None
    """The whole answer, in its last piece."""


class Backend:
    """Answers conversations with one model.

    Args:
        model: found, its weights not loaded by this.
        scheduler: over the model's engine; closed with this.
        name: what callers call the model, instead of its own name.
    """

    def __init__(self, model: Model, scheduler: Scheduler, *, name: str | None = None) -> None:
        self.model = model
        self.name = name or Path(model.name).name
        self.scheduler = scheduler

    def open(self) -> None:
        """Load the weights, and wait until they are there.

        Raises:
            KinemaError: they cannot be loaded.
        """
        self.scheduler.call(lambda engine: None).result()

    async def answer(
        self, question: Question, *, streamed: bool = False
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of the answers, mixed; each one's last piece carries the whole answer.

        Closing the iterator stops the model.

        Args:
            question: with its media read.
            streamed: whether pieces come while the model writes, or whole answers alone.

        Raises:
            KinemaError: the request does not fit the model, the engine failed at it, or the
                server is shutting down.
        """
        heard: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(news: Piece | BaseException) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(heard.put_nowait, news)

        def write(index: int, text: str) -> None:
            tell(Piece(index, text))

        def end(index: int, future: Future[Answered]) -> None:
            if future.cancelled():
                tell(Busy("The server is shutting down.", retry_after_seconds=10))
            else:
                problem = future.exception()
                tell(problem or Piece(index, answered=future.result()))

        futures: list[Future[Answered]] = []
        try:
            with self.scheduler.arriving():  # all n of them, so that they share a batch
                for index, ask in enumerate(question.asks):
                    on_text = partial(write, index) if streamed else None
                    future = self.scheduler.submit(ask, on_text=on_text)
                    futures.append(future)
                    future.add_done_callback(partial(end, index))
            unfinished = question.n
            while unfinished:
                news = await heard.get()
                if isinstance(news, BaseException):
                    raise for_strangers(news)
                unfinished -= news.answered is not None
                yield news
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Finish what is under way, then give the engine's memory back."""
        self.scheduler.close(finish=True)
