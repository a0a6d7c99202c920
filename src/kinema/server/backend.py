"""One of the models that are served: its engine behind a batcher."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinema import prompt as prompts
from kinema.engines import Generates
from kinema.messages import (
    Conversation,
    Delta,
    ImagePart,
    Request,
    SamplingParams,
    VideoPart,
)
from kinema.server.batcher import Batcher
from kinema.server.lending import LentEngine
from kinema.tasks.models import Model
from kinema.types import Frames

_LENT = 4
"""Requests of a caption job that wait or run at once; the rest of a batch is for others."""


@dataclass(frozen=True)
class Question:
    """One request of a caller: what is said, with its media read."""

    conversation: Conversation
    params: SamplingParams
    n: int = 1
    fit: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def request_ids(self) -> list[str]:
        """One for each answer that is asked for."""
        return [f"{self.id}-{i}" for i in range(self.n)]

    @property
    def frames(self) -> list[Frames]:
        """What the model is shown, in order."""
        parts = (p for p in self.conversation.media if isinstance(p, ImagePart | VideoPart))
        return [part.source for part in parts if isinstance(part.source, Frames)]


class Backend:
    """Answers conversations with one model.

    Args:
        model: found, its weights not loaded by this.
        engine: with the model's weights; closed with this.
        name: what callers call the model, instead of its own name.
    """

    def __init__(self, model: Model, engine: Generates, *, name: str | None = None) -> None:
        self.model = model
        self.name = name or Path(model.name).name
        self._engine = engine
        self._batcher = Batcher(engine)

    @property
    def num_waiting(self) -> int:
        """Requests that the engine has not begun."""
        return self._batcher.num_waiting

    @property
    def num_running(self) -> int:
        """Requests that the engine works on."""
        return self._batcher.num_running

    def arriving(self) -> AbstractContextManager[None]:
        """Around the reading of a request's media: an idle engine waits a moment for it."""
        return self._batcher.arriving()

    def answer(self, question: Question) -> AsyncGenerator[Delta, None]:
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

        return self._batcher.answer(question.request_ids, prepare)

    def lend(self, name: str, is_cancelled: Callable[[], bool]) -> LentEngine:
        """The engine, for a job that has nobody else's requests in mind."""
        return LentEngine(
            self._batcher, self._engine, name=name, most=_LENT, is_cancelled=is_cancelled
        )

    def close(self) -> None:
        """Finish what is under way, then give the engine's memory back."""
        self._batcher.close()
        self._engine.close()

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


def _copy(request: Request, request_id: str, number: int) -> Request:
    """One of the answers to a request: the first is the request itself, the others differ."""
    if request.id == request_id:
        return request
    seed = request.params.seed
    params = replace(request.params, seed=None if seed is None else seed + number)
    return replace(request, id=request_id, params=params)
