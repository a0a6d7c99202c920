"""Ask about videos and images, once or in a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kinema import prompt as prompts
from kinema.engines import EngineSettings, Generates, Streams, require, world_size
from kinema.errors import ModelError
from kinema.files import FEATURES_SUFFIX, PICTURE_SUFFIXES
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
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import DEFAULT_MODEL, Model, find_model
from kinema.types import Features, Frames, FrameSampling, Source
from kinema.video import load_frames

DEFAULT_PROMPT = "What happens in this video?"
"""How a features file is told from a video."""


@dataclass(frozen=True)
class Answer:
    """An answer and the evidence it stands on."""

    text: str
    model: str
    family: str
    engine: str
    prompt: str
    frames: tuple[Frames | Features, ...]
    """What the model saw, one entry a video or image, in the order it was given."""
    completion: Completion
    seconds: dict[str, float]
    """Where the time went: decode, load, generate and, when streamed, first_token."""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """One record, ready for JSON."""
        completion = self.completion
        record: dict[str, Any] = {
            "answer": self.text,
            "prompt": self.prompt,
            "model": self.model,
            "family": self.family,
            "engine": self.engine,
            "finish_reason": completion.finish_reason,
            "usage": vars(completion.usage).copy(),
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "frames": [frames.to_dict() for frames in self.frames],
            "warnings": list(self.warnings),
        }
        if completion.logprobs is not None:
            record["logprobs"] = [vars(token).copy() for token in completion.logprobs]
        return record


class Chat:
    """A conversation about videos and images.

    The media of a turn are read before any weights are loaded, and stay for the turns after it.

    Args:
        model: ``tiny``, a checkpoint folder, or a name on a model hub.
        engine: the backend; the family's first one when None.
        system: replaces the family's own system prompt.
        params: how words are picked.
        settings: how weights are loaded.
        parts: the pieces of a checkpoint that comes in pieces, and its template.
        fit: take frames away when they do not fit the context, instead of refusing.
        strict: refuse a damaged video instead of showing the frames that could be decoded.
        on_stage: told what begins: "reading", "loading", "answering".

    Raises:
        UnknownName: no such model or engine.
        ModelNotFound: the checkpoint is not there.
    """

    def __init__(  # noqa: PLR0913  the settings of a conversation
        self,
        model: str = DEFAULT_MODEL,
        *,
        engine: str | None = None,
        system: str | None = None,
        params: SamplingParams = SamplingParams(),
        settings: EngineSettings | None = None,
        parts: CheckpointParts = CheckpointParts(),
        fit: bool = False,
        strict: bool = False,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.model: Model = find_model(model, engine=engine, parts=parts)
        self.params = params
        self.conversation = Conversation()
        self._settings = settings or EngineSettings()
        self._fit = fit
        self._load = partial(load_frames, strict=strict)
        self._on_stage = on_stage
        self._engine: Generates | None = None
        if system is not None:
            self.conversation += Message("system", (TextPart(system),))
        if world_size() > 1:
            self._engine = self.model.open(self._settings)  # the other processes wait for it

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Generates:
        """The backend, with its weights loaded; the first question does this too.

        That of transformers holds ``model`` and ``processor``, which are transformers' own.
        """
        if self._engine is None:
            self._on_stage("loading")
            self._engine = self.model.open(self._settings)
        return self._engine

    def look(self, *media: Source | Part, **sampling: Any) -> list[Part]:
        """Read media now; what comes back can be given to :meth:`ask` and is not read again.

        Raises:
            MediaError: a source cannot be read.
        """
        parts = tuple(as_part(medium, FrameSampling(**sampling)) for medium in media)
        said = Conversation((Message("user", parts),))
        decoded = prompts.decode(said, self.model.family, load=self._load)
        return list(decoded.messages[0].parts)

    def ask(self, prompt: str, *media: Source | Part, **sampling: Any) -> Answer:
        """Say something, with new media or about the earlier ones.

        Args:
            prompt: the words.
            media: videos and images that come with this turn.
            **sampling: fields of :class:`FrameSampling` for those that are plain sources.

        Raises:
            MediaError: a source cannot be read.
            ContextTooLong: prompt, frames and answer do not fit the model.
        """
        turn = self._begin(prompt, media, sampling)
        completion = next(self._ready(turn).generate([turn.request]))
        return self._end(turn, completion)

    def stream(self, prompt: str, *media: Source | Part, **sampling: Any) -> Iterator[str | Answer]:
        """Like :meth:`ask`, yielding text as it comes and the :class:`Answer` at the end."""
        turn = self._begin(prompt, media, sampling)
        for delta in require(self._ready(turn), Streams).stream(turn.request):
            if delta.text:
                yield delta.text
            if delta.completion is not None:
                yield self._end(turn, delta.completion)

    def reset(self) -> None:
        """Forget every turn but the system prompt; the weights stay loaded."""
        kept = (m for m in self.conversation.messages if m.role == "system")
        self.conversation = Conversation(tuple(kept))

    def close(self) -> None:
        """Give the engine's memory back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _begin(
        self, prompt: str, media: tuple[Source | Part, ...], sampling: dict[str, Any]
    ) -> _Turn:
        clock = _Clock()
        self._on_stage("reading")
        said = Message("user", (*self.look(*media, **sampling), TextPart(prompt)))
        clock.lap("decode")
        return _Turn(prompt, self.conversation + said, clock)

    def _ready(self, turn: _Turn) -> Generates:
        """The engine, with the turn's request prepared and known to fit it."""
        engine = self.open()
        turn.clock.lap("load")
        turn.request, note = prompts.fit(
            self._prepare(turn.conversation),
            count=engine.count_tokens,
            context_length=engine.context_length,
            reprepare=self._prepare,
            reduce=self._fit,
        )
        turn.notes += [note] if note else []
        turn.clock.lap("prepare")
        self._on_stage("answering")
        return engine

    def _prepare(self, conversation: Conversation) -> Request:
        return prompts.prepare(
            conversation,
            family=self.model.family,
            checkpoint=self.model.checkpoint,
            params=self.params,
        )

    def _end(self, turn: _Turn, completion: Completion) -> Answer:
        turn.clock.lap("generate")
        if completion.error is not None:
            raise ModelError(completion.error)
        if completion.first_token_seconds is not None:
            turn.clock.laps["first_token"] = completion.first_token_seconds
        said = _without_family_system(turn.request.conversation, self.conversation)
        self.conversation = said + Message("assistant", (TextPart(completion.text),))
        frames = _frames(turn.request.conversation)
        warnings = [w for f in frames for w in f.warnings]
        return Answer(
            text=completion.text,
            model=self.model.name,
            family=self.model.family.name,
            engine=self.model.engine,
            prompt=turn.prompt,
            frames=frames,
            completion=completion,
            seconds=turn.clock.laps,
            warnings=tuple(dict.fromkeys([*warnings, *turn.notes])),
        )


def chat(
    source: Source | list[Source],
    prompt: str = DEFAULT_PROMPT,
    *,
    model: str = DEFAULT_MODEL,
    engine: str | None = None,
    system: str | None = None,
    params: SamplingParams = SamplingParams(),
    settings: EngineSettings | None = None,
    fit: bool = False,
    **sampling: Any,
) -> Answer:
    """Ask one question about one or several videos and images.

    ``str()`` of the result is the answer. Other arguments are those of :class:`Chat`, and the
    fields of :class:`FrameSampling`.
    """
    sources = source if isinstance(source, list) else [source]
    with Chat(
        model, engine=engine, system=system, params=params, settings=settings, fit=fit
    ) as session:
        return session.ask(prompt, *sources, **sampling)


def load(
    model: str = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    system: str | None = None,
    params: SamplingParams = SamplingParams(),
    **settings: Any,
) -> Chat:
    """A model with its weights loaded, ready for questions.

    Args:
        model: as for :class:`Chat`, and so are ``engine``, ``system`` and ``params``.
        **settings: fields of :class:`EngineSettings`: ``quantization="bnb-4bit"``, ``dtype``, ...

    Returns:
        A conversation that has not begun.
    """
    session = Chat(
        model, engine=engine, system=system, params=params, settings=EngineSettings(**settings)
    )
    session.open()
    return session


def as_part(medium: Source | Part, sampling: FrameSampling) -> Part:
    """A source as a part of a message: an image or features when its name says so, else a video."""
    if isinstance(medium, TextPart | ImagePart | VideoPart | FeaturesPart):
        return medium
    suffix = Path(medium).suffix.lower() if isinstance(medium, str | Path) else ""
    if suffix in PICTURE_SUFFIXES and isinstance(medium, str | Path):
        return ImagePart(medium)
    if suffix == FEATURES_SUFFIX and isinstance(medium, str | Path):
        return FeaturesPart(Path(medium))
    return VideoPart(medium, sampling)


def _frames(conversation: Conversation) -> tuple[Frames | Features, ...]:
    return tuple(p.source for p in conversation.media if isinstance(p.source, Frames | Features))


def _without_family_system(prepared: Conversation, before: Conversation) -> Conversation:
    """The prepared turns, without the system prompt that the family put in front."""
    had = any(m.role == "system" for m in before.messages)
    kept = (m for m in prepared.messages if had or m.role != "system")
    return Conversation(tuple(kept))


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


@dataclass
class _Turn:
    """What one question needs on its way; ``request`` is there once the engine is."""

    prompt: str
    conversation: Conversation
    clock: _Clock
    notes: list[str] = field(default_factory=list)
    request: Request = field(init=False)
