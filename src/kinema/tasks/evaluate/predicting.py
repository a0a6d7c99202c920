"""A model that answers a benchmark's questions, without ever waiting for a video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

from kinema import prompt as prompts
from kinema.engines import EngineSettings, Generates
from kinema.errors import KinemaError, MediaNotFound, MissingCapability, ModelError
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Prediction
from kinema.messages import (
    Completion,
    Conversation,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.evaluate.feeding import Feed, Question, Ready, load_clip, read_ahead
from kinema.tasks.models import Model, revision_of
from kinema.types import Frames
from kinema.video import Workers

_READERS = 2
_KEPT_CLIPS = 4
_ALTERNATIVES = 20
"""First tokens whose probability is asked for when options are ranked."""


class Predictor:
    """A model that answers questions; its weights are loaded when the first one is ready.

    Args:
        model: which one.
        params: how words are picked.
        loading: how weights are loaded.
        rank: score the letters of the options instead of generating.
    """

    def __init__(
        self, model: Model, params: SamplingParams, loading: EngineSettings, *, rank: bool = False
    ) -> None:
        self._model = model
        self._params = params
        self._loading = loading
        self._rank = rank
        self._engine: Generates | None = None
        self._workers = Workers(_READERS)
        self._load = lru_cache(_KEPT_CLIPS)(partial(load_clip, load=self._workers.load_frames))

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()
        if self._engine is not None:
            self._engine.close()

    @cached_property
    def revision(self) -> str:
        """Sixteen hex digits of the checkpoint's files."""
        return revision_of(self._model.checkpoint)

    def answer(
        self, questions: Iterable[Question], *, on_begin: Callable[[], object]
    ) -> Iterator[tuple[str, Prediction]]:
        """Predictions by item id, as they get ready; a failure becomes a prediction without reply.

        Args:
            questions: in order.
            on_begin: called when the next question, in the order given, is taken up.

        Raises:
            ModelError: the model cannot be loaded, or cannot rank options.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            feed = Feed(read_ahead(pool, self._read, questions), on_begin, self._request)
            while (first := feed.next_request()) is not None:
                yield from self._drain(feed, first)
            yield from self._failures(feed)

    def _drain(self, feed: Feed, first: Request) -> Iterator[tuple[str, Prediction]]:
        """Completions until the feed ends or the engine fails at a request."""
        completions = self._open().generate(feed.requests(first))
        while True:
            try:
                completion = next(completions, None)
            except KinemaError as problem:
                feed.abandon(problem)
                completion = None
            if completion is None:
                feed.abandon(ModelError("The engine stopped without an answer."))
            else:
                yield completion.request_id, self._prediction(feed.take(completion), completion)
            yield from self._failures(feed)
            if completion is None:
                return

    def _failures(self, feed: Feed) -> Iterator[tuple[str, Prediction]]:
        for ready, problem in feed.take_failures():
            blank = self._blank(ready, error=str(problem), error_code=problem.code)
            yield ready.question.item.id, blank

    def _open(self) -> Generates:
        if self._engine is None:
            self._engine = self._model.open(self._loading)
        return self._engine

    def _read(self, question: Question) -> Ready:
        """Decode the video of a question, in a thread."""
        sampling = question.sampling.or_default(self._model.family.default_sampling)
        try:
            parts: list[Part] = []
            if question.missing:
                raise MediaNotFound(f"There is no video {question.item.video_id}.")
            if question.source is not None:
                fps = question.item.facts.get("fps")
                frames = self._load(question.source, sampling, fps)
                parts.append(VideoPart(frames, sampling))
            said = [Message("user", (*parts, TextPart(question.prompt)))]
            if question.system:
                said.insert(0, Message("system", (TextPart(question.system),)))
            decoded = prompts.decode(Conversation(tuple(said)), self._model.family)
            return Ready(question, sampling, decoded)
        except KinemaError as problem:
            return Ready(question, sampling, error=problem)

    def _request(self, ready: Ready) -> Request:
        """The request of a question, known to fit the context.

        Raises:
            ModelError: it does not.
        """
        engine = self._open()
        request, _ = prompts.fit(
            self._prepare(ready, ready.conversation),
            count=engine.count_tokens,
            context_length=engine.context_length,
            reprepare=lambda conversation: self._prepare(ready, conversation),
        )
        return request

    def _prepare(self, ready: Ready, conversation: Conversation) -> Request:
        params = self._params
        if self._ranks(ready):
            params = replace(params, max_new_tokens=1, min_new_tokens=0, logprobs=_ALTERNATIVES)
        return prompts.prepare(
            conversation,
            family=self._model.family,
            checkpoint=self._model.checkpoint,
            params=params,
            request_id=ready.question.item.id,
        )

    def _ranks(self, ready: Ready) -> bool:
        item = ready.question.item
        return self._rank and item.task == "choice" and item.lettered

    def _prediction(self, ready: Ready, completion: Completion) -> Prediction:
        if completion.finish_reason == "error":
            return self._blank(ready, error=completion.error or "error", error_code="engine")
        scores = None
        if self._ranks(ready):
            scores = _option_scores(completion, len(ready.question.item.options), self._model)
        return replace(
            self._blank(ready),
            reply=completion.text,
            option_scores=scores,
            finish_reason=completion.finish_reason,
            usage=vars(completion.usage).copy(),
            seconds=round(completion.seconds, 4),
        )

    def _blank(self, ready: Ready, *, error: str = "", error_code: str = "") -> Prediction:
        frames = [
            part.source
            for part in ready.conversation.media
            if isinstance(part, VideoPart) and isinstance(part.source, Frames)
        ]
        return Prediction(
            reply=None,
            error=error,
            error_code=error_code,
            prompt=ready.question.prompt,
            system=ready.question.system,
            frames=tuple(_seen(f) for f in frames),
            sampling=ready.sampling.to_dict() if ready.question.source else {},
            warnings=tuple(w for f in frames for w in f.warnings),
            model=self._model.name,
            revision=self.revision,
            params=self._params.to_dict(),
        )


def _seen(frames: Frames) -> dict[str, Any]:
    """Which frames these are, without what every record says anyway."""
    record = frames.to_dict()
    record.pop("warnings")
    return record


def _option_scores(completion: Completion, count: int, model: Model) -> tuple[float, ...] | None:
    """Log-probability that the answer begins with each option's letter, as ``B``, ``b`` or ``(B``.

    Letters outside the alternatives that the engine reports get the lowest of them; None when no
    letter is inside.
    """
    if not completion.logprobs:
        raise MissingCapability(
            f"The engine {model.engine!r} reports no log-probabilities.",
            hint="Leave --rank-options out, or take an engine that does (hf).",
        )
    first = completion.logprobs[0]
    tokens = dict([*first.alternatives, (first.token, first.logprob)])
    chances = [0.0] * count
    for token, logprob in tokens.items():
        index = LETTERS.find(token.strip(" (▁Ġ\n").upper() or "?")
        if 0 <= index < count:
            chances[index] += math.exp(logprob)
    if not any(chances):
        return None
    lowest = min(tokens.values())
    return tuple(round(math.log(c), 6) if c else lowest for c in chances)
