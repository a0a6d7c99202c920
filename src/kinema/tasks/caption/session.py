"""One model at work: opens the engine when the first question is ready, and asks it everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kinema.captioning.exports import Load
from kinema.captioning.prompts import Prompts
from kinema.captioning.summary import Budget, Summariser
from kinema.config import fingerprint
from kinema.engines import EngineSettings, Generates
from kinema.errors import KinemaError, UsageError
from kinema.messages import SamplingParams
from kinema.tasks.caption.asking import Asker
from kinema.tasks.caption.describe import Describer
from kinema.tasks.caption.feed import Feed
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.options import CaptionOptions, answer_settings, record_settings
from kinema.tasks.models import Model

_SERVER_CONTEXT = 8192
"""Tokens that a server is trusted to have where nothing says how many."""
_BYTES_PER_TOKEN = 3


@dataclass
class Session:
    """A model with its settings; the engine is loaded once, and once more where it broke.

    Args:
        plan: fingerprint of how videos are cut.
        load: reads frames.
    """

    model: Model
    engine_settings: EngineSettings
    params: SamplingParams
    options: CaptionOptions
    memo: Memo
    plan: str
    load: Load
    on_load: Callable[[], None] = lambda: None
    _engine: Generates | None = field(default=None, init=False)

    @cached_property
    def prompts(self) -> Prompts:
        """What the model is asked."""
        return self.options.prompts(self.model)

    @cached_property
    def asker(self) -> Asker:
        """Makes requests."""
        return Asker(
            self.model,
            self.params,
            self.load,
            skip_similar=self.options.skip_similar,
            frame_size=self.options.frame_size,
        )

    @cached_property
    def answers(self) -> dict[str, Any]:
        """All that decides an answer of the model."""
        return answer_settings(self.model, self.engine_settings, self.params, self.options)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides a record."""
        return record_settings(self.answers, self.plan, self.options, self.prompts)

    @cached_property
    def describer(self) -> Describer:
        """Makes records."""
        by_model = self.options.by_model(self.model)
        if by_model and not self.model.family.writes_freely:
            raise UsageError(
                f"{self.model.family.title} answers questions about videos alone.",
                hint="Use --summary-by extract, or another model.",
            )
        structured = self.params.json_schema is not None
        if structured and not self.model.family.writes_freely:
            raise UsageError(
                f"{self.model.family.title} has its own sentences and writes no JSON.",
                hint="Leave --schema out, or use another model.",
            )
        return Describer(
            prompts=self.prompts,
            summariser=Summariser(
                prompts=self.prompts,
                budget=self._budget,
                settings=fingerprint(self.answers),
                by_model=by_model,
                chapter_seconds=self.options.chapter_seconds,
            ),
            answers=fingerprint(self.answers),
            settings=fingerprint(self.settings),
            structured=structured,
        )

    def engine(self) -> Generates:
        """The engine, loaded.

        Raises:
            ModelError: it cannot be loaded.
            UsageError: its context is too short for a summary of captions of full length; said
                here, before the first caption is made.
        """
        if self._engine is None:
            self.on_load()
            self._engine = self.model.open(self.engine_settings)
            if self.describer.summariser.by_model:
                self._budget()
        return self._engine

    def drain(self, feed: Feed) -> Iterator[tuple[Any, Any]]:
        """Ask all that a feed has; its videos as they end, with what came of them."""
        while (first := feed.next_request()) is not None:
            try:
                for completion in self.engine().generate(_chain(first, feed)):
                    feed.take(completion)
                    yield from feed.take_finished()
            except KinemaError as problem:
                self._ask_alone(feed, problem)
            yield from feed.take_finished()
        yield from feed.take_finished()

    def close(self) -> None:
        """Give the engine's memory back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _ask_alone(self, feed: Feed, problem: KinemaError) -> None:
        """The engine broke down: a fresh one is asked one by one what the old one had."""
        left = feed.unanswered()
        self.close()
        if not left:
            raise problem
        for request in left:
            try:
                for completion in self.engine().generate([request]):
                    feed.take(completion)
            except KinemaError as again:
                self.close()
                feed.give_up(request, again)

    def _budget(self) -> Budget:
        return self._known_budget

    @cached_property
    def _known_budget(self) -> Budget:
        """Tokens for notes; counts are kept, so that a run without questions loads no engine."""
        settings = fingerprint(self.answers)
        context = self._kept(f"context-{settings}", self._context)
        return Budget.of(
            context or None,
            lambda text: self._kept(
                f"tokens-{settings}-{fingerprint({'text': text})}", lambda: self._count(text)
            ),
            self.prompts,
            max_new_tokens=self.params.max_new_tokens,
        )

    def _kept(self, key: str, find: Callable[[], int]) -> int:
        known = self.memo.get(key)
        if known is None:
            known = find()
            self.memo.put(key, known)
        return int(known)

    def _context(self) -> int:
        """Tokens for prompt and answer; 0 without a limit."""
        own = self.engine().context_length
        if own is None and self.model.engine == "openai":
            return self.engine_settings.max_context or _SERVER_CONTEXT
        return min(filter(None, (own, self.engine_settings.max_context)), default=0)

    def _count(self, text: str) -> int:
        counted = self.asker.count(text, self.engine())
        return counted or math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def _chain(first: Any, feed: Feed) -> Iterator[Any]:
    yield first
    yield from feed.requests()
