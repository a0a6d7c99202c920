"""Where the work on units is done: this process, or actors of a cluster, under the same code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from kinema.engines.scheduler import Scheduler
from kinema.errors import MediaError
from kinema.families import Family
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.clips import BUDGET_BYTES, Clips
from kinema.jobs.towers import Encoded, Towers
from kinema.messages import (
    Ask,
    Conversation,
    Reply,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.structured import follow_schema
from kinema.types import Frames
from kinema.video import Workers

T = TypeVar("T")

PATIENCE_SECONDS = 2.0
"""How long an idle engine of a job waits for a full batch while media are being read."""


class Site(Protocol):
    """What a unit's story may ask for. All that crosses pickles and holds no pixels."""

    async def look(self, task: Callable[[Workers], T]) -> T:
        """What ``task`` finds with the processes that read videos; no engine is needed."""
        ...

    async def answer(self, ask: Ask) -> Reply:
        """What the model says; a question whose answer is known is not asked again.

        Raises:
            KinemaError: see :mod:`kinema.errors` for whose fault it is.
        """
        ...

    async def encode(self, part: VideoPart, variants: Sequence[str] = ("",)) -> Encoded:
        """What a vision tower sees in a video, once for each augmentation of its frames.

        Raises:
            KinemaError: see :class:`kinema.jobs.towers.Towers` for whose fault it is.
        """
        ...

    async def count(self, text: str) -> int:
        """Prompt tokens of a question of these words alone; 0 where only a server can tell."""
        ...

    async def context_length(self) -> int | None:
        """Tokens that the model has for prompt and answer; None without a limit that is known."""
        ...


@dataclass(eq=False)
class _Pending:
    """A question that was asked and has no answer yet, and how many wait for it."""

    task: asyncio.Task[Reply]
    waiters: int = 0


class Answers:
    """Answers by key: known ones, and those that are on their way, each asked for once.

    Args:
        known: where answers are kept; None keeps none.
        ask: gets an answer that is not known.
    """

    def __init__(self, known: AnswerCache | None, ask: Callable[[Ask], Awaitable[Reply]]) -> None:
        self._known = known
        self._ask = ask
        self._pending: dict[str, _Pending] = {}

    async def answer(self, ask: Ask) -> Reply:
        """The answer to a question; two that ask the same wait for one."""
        while True:
            if self._known is not None and (known := self._known.get(ask.key)) is not None:
                return Reply.from_dict(known)
            pending = self._pending.get(ask.key)
            asked_before = pending is not None
            if pending is None:
                pending = _Pending(asyncio.create_task(self._get(ask)))
                self._pending[ask.key] = pending
            pending.waiters += 1
            try:
                # One that leaves does not take the answer away from the others.
                return await asyncio.shield(pending.task)
            except MediaError:
                # The key is of content: the other may be a copy of this file, gone since.
                if not asked_before:
                    raise
                self._drop(ask.key, pending)
            finally:
                pending.waiters -= 1
                if not pending.waiters:
                    self._drop(ask.key, pending)
                    pending.task.cancel()

    def _drop(self, key: str, pending: _Pending) -> None:
        if self._pending.get(key) is pending:
            del self._pending[key]

    async def _get(self, ask: Ask) -> Reply:
        reply = await self._ask(ask)
        is_refusal = reply.completion.finish_reason == "refusal"
        if ask.params.json_schema is not None and not is_refusal:
            follow_schema(reply.completion.text, ask.params.json_schema)
        if self._known is not None:
            self._known.put(ask.key, reply.to_dict())
        return reply


class Local:
    """This process: worker processes that decode, a cache of answers, and one engine.

    Args:
        scheduler: of the engine; opened when the first question is ready. Not closed by this. None
            where nothing is asked.
        workers: processes that read videos. Not closed by this.
        family: how the model is spoken to.
        answers: answers that are known; None keeps none.
        towers: encode videos; None where nothing is encoded. Not closed by this.
        readers: threads that wait for the workers.
        strict: refuse a damaged video instead of showing the frames that could be decoded.
        budget_bytes: decoded pixels that may be held at one time.
    """

    def __init__(
        self,
        scheduler: Scheduler | None,
        workers: Workers,
        *,
        family: Family,
        answers: AnswerCache | None = None,
        towers: Towers | None = None,
        readers: int = 2,
        strict: bool = False,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self._given = scheduler
        self._towers = towers
        self._workers = workers
        self._answers = Answers(answers, self._ask)
        self._pool = ThreadPoolExecutor(readers, "kinema-decode")
        self.clips = Clips(workers, self._pool, family, strict=strict, budget_bytes=budget_bytes)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    async def look(self, task: Callable[[Workers], T]) -> T:
        """See :class:`Site`."""
        loop = asyncio.get_running_loop()
        with nullcontext() if self._given is None else self._given.arriving(soon=False):
            return await loop.run_in_executor(self._pool, task, self._workers)

    async def answer(self, ask: Ask) -> Reply:
        """See :class:`Site`."""
        return await self._answers.answer(ask)

    async def encode(self, part: VideoPart, variants: Sequence[str] = ("",)) -> Encoded:
        """See :class:`Site`."""
        assert self._towers is not None, "this site was opened without towers"
        return await self._towers.encode(lambda: self._frames(part), variants)

    async def count(self, text: str) -> int:
        """See :class:`Site`."""
        ask = Ask(
            key="",
            conversation=Conversation.asked(TextPart(text)),
            params=SamplingParams(max_new_tokens=1),
        )
        return await asyncio.wrap_future(self._scheduler.count(ask))

    async def context_length(self) -> int | None:
        """See :class:`Site`."""
        return await asyncio.wrap_future(self._scheduler.call(lambda engine: engine.context_length))

    @property
    def _scheduler(self) -> Scheduler:
        assert self._given is not None, "this site was opened without an engine"
        return self._given

    @asynccontextmanager
    async def _frames(self, part: VideoPart) -> AsyncIterator[Frames]:
        async with self.clips.decoded(Conversation.asked(part)) as read:
            (frames,) = (part.source for part in read.media)
            assert isinstance(frames, Frames)
            yield frames

    async def _ask(self, ask: Ask) -> Reply:
        async with AsyncExitStack() as stack:
            with self._scheduler.arriving():
                conversation = await stack.enter_async_context(self.clips.decoded(ask.conversation))
                answered = self._scheduler.submit(replace(ask, conversation=conversation))
            return (await asyncio.wrap_future(answered)).reply()
