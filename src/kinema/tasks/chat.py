"""Ask about videos and images, once or in a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar
from uuid import uuid4

from kinema import prompt as prompts
from kinema.engines import Engine, EngineSettings, world_size
from kinema.engines.job import Answered
from kinema.engines.scheduler import Scheduler
from kinema.errors import UnknownName, UsageError
from kinema.files import FEATURES_SUFFIXES, PICTURE_SUFFIXES
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
from kinema.tasks.chat_answer import Answer
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import DEFAULT_MODEL, Model, find_model
from kinema.tasks.shown_subtitles import with_subtitles
from kinema.types import Features, Frames, FrameSampling, Source
from kinema.video import load_frames
from kinema.video.cues import Cue, parse_track
from kinema.video.decoder import DecoderName

T = TypeVar("T")
_OF_LOAD = ("model", "engine", "system", "params")
_OF_CHAT = (*_OF_LOAD, "settings", "fit", "subtitles", "prompt")
"""Keywords beside the fields of settings."""
DEFAULT_PROMPT = "What happens in this video?"


class Chat:
    """A conversation about videos and images.

    The media of a turn are read before any weights are loaded, and stay for the turns after it.
    The engine works in a thread of its own; Ctrl-C while an answer is awaited ends that answer
    alone, and the next question can be asked.

    Args:
        model: ``spotter``, a checkpoint folder, or a name on a model hub.
        engine: the backend; the family's first one when None.
        system: replaces the family's own system prompt.
        params: sampling parameters.
        settings: how weights are loaded.
        parts: the pieces of a checkpoint that comes in pieces, and its template.
        fit: take frames away when they do not fit the context, instead of refusing.
        strict: refuse a damaged video instead of showing the frames that could be decoded.
        subtitles: show the model the subtitles of its videos: ``auto``, a track's number or a file.
        decoder: what decodes videos; see :func:`kinema.video.load_frames`.
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
        subtitles: str | None = None,
        decoder: DecoderName = "pyav",
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.model: Model = find_model(model, engine=engine, parts=parts)
        self.params = params
        self.conversation = Conversation()
        self._settings = settings or EngineSettings()
        self._fit = fit
        self._load = partial(load_frames, strict=strict, decoder=decoder)
        self._on_stage = on_stage
        parse_track(subtitles)
        self._subtitles = subtitles
        self._cues: tuple[Cue, ...] = ()
        self._scheduler: Scheduler | None = None
        self._is_closed = False
        if system is not None:
            self.conversation += Message("system", (TextPart(system),))
        if world_size() > 1:
            self._scheduled()  # the other processes wait for the engine

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Engine:
        """The engine, with its weights loaded; the first question does this too.

        That of transformers holds ``model`` and ``processor``, which are transformers' own.

        Raises:
            UsageError: :meth:`close` was called.
            ModelError: the weights cannot be loaded.
        """
        return _result(self._scheduled().call(lambda engine: engine))

    def look(self, *media: Source | Part, **sampling: Any) -> list[Part]:
        """Read media now; what comes back can be given to :meth:`ask` and is not read again.

        Raises:
            MediaError: a source cannot be read.
        """
        frames = _made(FrameSampling, sampling)
        said = Conversation.asked(*(as_part(one, frames) for one in media))
        decoded = prompts.decode(said, self.model.family, load=self._load)
        given, read = said.messages[0].parts, decoded.messages[0].parts
        parts, cues = with_subtitles(given, read, self._subtitles)
        self._cues += cues
        return parts

    def ask(self, prompt: str, *media: Source | Part, **sampling: Any) -> Answer:
        """Say something, with new media or about the earlier ones.

        Args:
            prompt: the words.
            media: videos and images that come with this turn; parts that are words stay in order.
            **sampling: fields of :class:`FrameSampling` for those that are plain sources.

        Raises:
            UsageError: :meth:`close` was called.
            MediaError: a source cannot be read.
            ContextTooLong: prompt, frames and answer do not fit the model.
            ModelError: what else the engine or the server behind it ran into.
        """
        turn = self._begin(prompt, media, sampling)
        return self._end(turn, _result(self._submit(turn)))

    def stream(self, prompt: str, *media: Source | Part, **sampling: Any) -> Iterator[str | Answer]:
        """Like :meth:`ask`, yielding text as it comes and the :class:`Answer` at the end.

        Leaving the iterator early ends the answer; the conversation stays as it was.
        """
        turn = self._begin(prompt, media, sampling)
        pieces: SimpleQueue[str | None] = SimpleQueue()
        answered = self._submit(turn, on_text=pieces.put)
        answered.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                if piece:
                    yield piece
        finally:
            answered.cancel()
        yield self._end(turn, answered.result())

    def recall(self, said: Conversation) -> None:
        """Go on behind turns that were said elsewhere, the answers among them; media are read now.

        Raises:
            MediaError: a source cannot be read.
        """
        before = prompts.decode(said, self.model.family, load=self._load)
        self.conversation = Conversation((*self.conversation.messages, *before.messages))

    def reset(self) -> None:
        """Forget every turn but the system prompt; the weights stay loaded."""
        kept = (m for m in self.conversation.messages if m.role == "system")
        self.conversation = Conversation(tuple(kept))
        self._cues = ()

    def close(self) -> None:
        """Give the engine's memory back; nothing can be asked any more."""
        self._is_closed = True
        if self._scheduler is not None:
            self._scheduler.close()
            self._scheduler = None

    def _begin(
        self, prompt: str, media: tuple[Source | Part, ...], sampling: dict[str, Any]
    ) -> _Turn:
        self._check_open()
        turn = _Turn(prompt)
        self._on_stage("reading")
        words = () if media and not prompt else (TextPart(prompt),)
        said = Message("user", (*self.look(*media, **sampling), *words))
        turn.conversation = self.conversation + said
        turn.lap("decode")
        return turn

    def _scheduled(self) -> Scheduler:
        """The scheduler over the model's engine; nothing is loaded by this."""
        self._check_open()
        if self._scheduler is None:
            self._scheduler = self.model.scheduler(
                self._settings,
                patience_seconds=0,
                on_open=lambda: self._on_stage("loading"),
            )
        return self._scheduler

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(
                f"This conversation with {self.model.name} was closed.",
                hint="Ask before close(), or inside of the with block; a new Chat begins another.",
            )

    def _submit(
        self, turn: _Turn, *, on_text: Callable[[str], None] | None = None
    ) -> Future[Answered]:
        self.open()
        turn.lap("load")
        self._on_stage("answering")
        ask = Ask(
            key=uuid4().hex, conversation=turn.conversation, params=self.params, fit=self._fit
        )
        return self._scheduled().submit(ask, on_text=on_text)

    def _end(self, turn: _Turn, answered: Answered) -> Answer:
        turn.lap("generate")
        completion = answered.completion
        if completion.first_token_seconds is not None:
            turn.laps["first_token"] = completion.first_token_seconds
        shown = answered.request.conversation
        # The system prompt that the family puts in front is put there again the next time.
        had_system = any(m.role == "system" for m in self.conversation.messages)
        said = (m for m in shown.messages if had_system or m.role != "system")
        answer = Message("assistant", (TextPart(completion.text),))
        self.conversation = Conversation((*said, answer))
        frames = tuple(p.source for p in shown.media if isinstance(p.source, Frames | Features))
        warnings = [w for f in frames for w in f.warnings]
        notes = [answered.note] if answered.note else []
        return Answer(
            text=completion.text,
            model=self.model.name,
            family=self.model.family.name,
            engine=self.model.engine,
            prompt=turn.prompt,
            frames=frames,
            completion=completion,
            seconds=turn.laps,
            warnings=tuple(dict.fromkeys([*warnings, *notes])),
            subtitles=self._cues,
        )


def chat(  # noqa: PLR0913  the settings of a conversation
    source: Source | list[Source],
    prompt: str = DEFAULT_PROMPT,
    *,
    model: str = DEFAULT_MODEL,
    engine: str | None = None,
    system: str | None = None,
    params: SamplingParams = SamplingParams(),
    settings: EngineSettings | None = None,
    fit: bool = False,
    subtitles: str | None = None,
    **sampling: Any,
) -> Answer:
    """Ask one question about one or several videos and images.

    ``str()`` of the result is the answer. Other arguments are those of :class:`Chat`, and the
    fields of :class:`FrameSampling`.
    """
    _made(FrameSampling, sampling, others=_OF_CHAT)
    sources = source if isinstance(source, list) else [source]
    with Chat(
        model,
        engine=engine,
        system=system,
        params=params,
        settings=settings,
        fit=fit,
        subtitles=subtitles,
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
    loading = _made(EngineSettings, settings, others=_OF_LOAD)
    session = Chat(model, engine=engine, system=system, params=params, settings=loading)
    session.open()
    return session


def _made(cls: type[T], values: Mapping[str, Any], *, others: Iterable[str] = ()) -> T:
    """Settings of keywords; ``others`` are named beside the fields where a keyword is unknown."""
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # T is a dataclass
    for name in values:
        if name not in known:
            raise UnknownName("keyword", name, [*known, *others])
    return cls(**values)


def as_part(medium: Source | Part, sampling: FrameSampling) -> Part:
    """A source as a part of a message: an image or features when its name says so, else a video."""
    if isinstance(medium, TextPart | ImagePart | VideoPart | FeaturesPart):
        return medium
    suffix = Path(medium).suffix.lower() if isinstance(medium, str | Path) else ""
    if suffix in PICTURE_SUFFIXES and isinstance(medium, str | Path):
        return ImagePart(medium)
    if suffix in FEATURES_SUFFIXES and isinstance(medium, str | Path):
        return FeaturesPart(Path(medium))
    return VideoPart(medium, sampling)


@dataclass
class _Turn:
    """One question on its way, after all that was said before it."""

    prompt: str
    conversation: Conversation = Conversation()
    laps: dict[str, float] = field(default_factory=dict)
    """Seconds since the last lap, by name."""
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


def _result(future: Future[T]) -> T:
    """What comes of it; whoever stops waiting, with Ctrl-C, does not want it any more."""
    try:
        return future.result()
    finally:
        future.cancel()
