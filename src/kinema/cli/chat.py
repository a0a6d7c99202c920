"""``kinema chat``: one question, or a conversation."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.flags import EngineFlags, ModelName, PartFlags, SamplingFlags, WordFlags
from kinema.cli.offer import model_of
from kinema.cli.output import STDIN, Status, complain, put, put_record, read_stdin, say, source_of
from kinema.datasets.conversations import conversation_from_json
from kinema.engines import EngineSettings, rank
from kinema.errors import KinemaError, UsageError
from kinema.lazy import Row, Table
from kinema.messages import (
    Conversation,
    ImagePart,
    Message,
    Part,
    Role,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.chat import Chat, as_part
from kinema.tasks.chat_answer import Answer
from kinema.tasks.chosen import default_model
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.types import FrameSampling
from kinema.video.decoder import DecoderName

_STAGES = {
    "reading": "reading …",
    "loading": "loading {model} …",
    "answering": "thinking …",
}
_PAGE = Table(
    "extra",
    {
        "web": Row(
            "kinema.cli.web:talk_on_page",
            needs=("fastapi", "uvicorn", "multipart", "prometheus_client", "gradio"),
            install="pip install 'kinema[serve,page]'",
        )
    },
)
_HELP = "/add FILE brings another video or image, /reset starts over, /quit or Ctrl-D ends."


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Which model answers, and how the answer is shown."""

    model: Annotated[str | None, ModelName] = None
    """spotter, a checkpoint folder, family:FOLDER, or a name on a model hub; without it the one
    that `kinema models use` chose, or spotter."""
    engine: str | None = None
    """The backend, instead of the family's first: see `kinema models`."""
    system: str | None = None
    """System prompt, instead of the family's own."""
    video: tuple[Path | str, ...] = ()
    """Another video of the same conversation; may be repeated."""
    image: tuple[Path | str, ...] = ()
    """A still image of the same conversation; may be repeated."""
    turn: tuple[str, ...] = ()
    """What was said before, question and answer in turn; media belong to the first question."""
    messages: Path | None = None
    """Begin with these messages: OpenAI's JSON, media paths relative to the file."""
    fit: bool = False
    """Take frames away when they do not fit the model's context, and say so."""
    strict: bool = False
    """Refuse a damaged video instead of showing the frames that could be decoded."""
    subtitles: str | None = None
    """Show the model the subtitles of the videos, with their times: auto takes those that players
    show, inside the file or beside it; or a track's number (see `kinema probe`), or a file."""
    decoder: DecoderName = "pyav"
    """What decodes videos: pyav, torchcodec, or cuda, a GPU where a check shows that it gives the
    same pictures."""
    json: bool = False
    """Print one JSON record per answer: text, usage, timings, frames seen."""
    web: bool = False
    """Talk on a page in the browser; the video is already there."""
    quiet: Annotated[bool, Parameter(alias="-q")] = False
    """Leave out the line about the frames that were seen."""


def chat(
    source: str | None = None,
    prompt: str | None = None,
    /,
    *,
    options: Annotated[ChatOptions, Parameter(name="*")] = ChatOptions(),
    sampling: SamplingFlags = FrameSampling(),
    params: WordFlags = SamplingParams(),
    settings: EngineFlags = EngineSettings(),
    parts: PartFlags = CheckpointParts(),
) -> int:
    """Ask about videos and images.

    Without a prompt a conversation begins; follow-up questions see the same frames.

    Examples:
      kinema chat clip.mp4 "What happens in this video?"
      kinema chat clip.mp4 "And then?" --start 1:20 --num-frames 16 --json
      kinema chat --web clip.mp4
      echo "Is there a dog?" | kinema chat clip.mp4 -

    Args:
        source: A video or image: path or URL; - reads a video from stdin.
        prompt: The question; - reads it from stdin.
    """
    if rank() > 0:
        found = find_model(options.model or default_model(), engine=options.engine, parts=parts)
        return found.follow(settings)
    if options.web:
        if prompt is not None or source == STDIN:
            raise UsageError("--web takes a video's path or address.", hint="Ask on the page.")
        talk_on_page = _PAGE.load("web")
        name = model_of(options.model, quiet=options.quiet or options.engine is not None)
        found = find_model(name, engine=options.engine, parts=parts)
        status: int = talk_on_page(found, source, settings)
        return status
    if source == STDIN and prompt in (None, STDIN):
        raise UsageError("stdin holds one thing: the video or what is said.", hint="Name a file.")
    media = _media(source, options, sampling)
    question = read_stdin() if prompt == STDIN else prompt
    before = _before(options, media)
    if options.turn:
        media = []
    elif before.messages and question is None:
        before, media, question = _asked(before)
    model = model_of(options.model, quiet=options.quiet or options.engine is not None)
    line = Status()
    with Chat(
        model,
        engine=options.engine,
        system=options.system,
        params=params,
        settings=settings,
        parts=parts,
        fit=options.fit,
        strict=options.strict,
        subtitles=options.subtitles,
        decoder=options.decoder,
        on_stage=lambda stage: line(_STAGES[stage].format(model=model)),
    ) as session:
        talk = _Talk(session, options, sampling, line)
        try:
            if before.messages:
                session.recall(before)
            if question is not None:
                talk.answer(question, media)
            else:
                talk.converse(media)
        finally:
            line.clear()
    return 0


def _media(source: str | None, options: ChatOptions, sampling: FrameSampling) -> list[Part]:
    sources = [source_of(source)] if source is not None else []
    parts = [as_part(s, sampling) for s in sources]
    parts += [VideoPart(v, sampling) for v in options.video]
    return parts + [ImagePart(i) for i in options.image]


def _before(options: ChatOptions, media: list[Part]) -> Conversation:
    """What was said before, by --turn or --messages."""
    if options.turn and options.messages is not None:
        raise UsageError("--turn and --messages exclude each other.", hint="Give one of them.")
    if len(options.turn) % 2:
        raise UsageError(
            f"--turn was given {len(options.turn)} times.",
            hint="Give a question and its answer, as often as they were said.",
        )
    if options.messages is not None:
        return _read(options.messages)
    roles: tuple[Role, ...] = ("user", "assistant")
    said = [
        Message(roles[place % 2], (*(() if place else media), TextPart(words)))
        for place, words in enumerate(options.turn)
    ]
    return Conversation(tuple(said))


def _read(file: Path) -> Conversation:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"{file} is not a JSON file: {problem}.", hint="Give a file of messages."
        ) from problem
    messages = read.get("messages") if isinstance(read, dict) else read
    return conversation_from_json(messages, file.parent)


def _asked(said: Conversation) -> tuple[Conversation, list[Part], str]:
    """The turns before the last, which is the question: its parts in order, and its last words."""
    *earlier, last = said.messages
    if last.role != "user":
        raise UsageError(
            "The last of the messages is not the user's.", hint="Give the question behind it."
        )
    *parts, end = last.parts
    words = end.text if isinstance(end, TextPart) else ""
    return Conversation(tuple(earlier)), parts if words else list(last.parts), words


@dataclass(frozen=True)
class _Talk:
    """A session, and how its answers are shown."""

    session: Chat
    options: ChatOptions
    sampling: FrameSampling
    status: Status

    def answer(self, question: str, media: list[Part]) -> None:
        """Ask, and print what comes back."""
        if sys.stdout.isatty() and not self.options.json:
            answer = self._stream(question, media)
        else:
            answer = self.session.ask(question, *media)
            self.status.clear()
            put_record(answer.to_dict()) if self.options.json else put(answer.text)
        if not self.options.quiet:
            self._explain(answer)

    def converse(self, media: list[Part]) -> None:
        """Turns until the input ends; an error ends one turn, not the conversation."""
        media = self.session.look(*media)
        if sys.stdin.isatty():
            say(_HELP)
        while (line := _read_line()) not in (None, "/quit", "/exit"):
            try:
                media = self._turn(str(line), media)
            except KinemaError as error:
                self.status.clear()
                complain(error)

    def _stream(self, question: str, media: list[Part]) -> Answer:
        for piece in self.session.stream(question, *media):
            self.status.clear()
            if isinstance(piece, Answer):
                put("")
                return piece
            put(piece, end="")
        raise AssertionError("a stream ends with its answer")

    def _explain(self, answer: Answer) -> None:
        """Who answered and from what, for people; records carry the same."""
        for warning in answer.warnings:
            say(f"note: {warning}")
        if self.options.json:
            return
        for frames in answer.frames:
            origin = f" of {frames.source}" if frames.source else ""
            say(f"[{answer.model}] {frames.seen}{origin}")

    def _turn(self, line: str, media: list[Part]) -> list[Part]:
        """One line of a conversation; returns the media that still wait for a question."""
        command, _, argument = line.partition(" ")
        if command == "/add":
            return [*media, *self.session.look(as_part(argument.strip(), self.sampling))]
        if command == "/reset":
            self.session.reset()
        elif command.startswith("/"):
            say(_HELP)
        elif line:
            self.answer(line, media)
            return []
        return media


def _read_line() -> str | None:
    """The next line, without its end; None when there is no more."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.strip() if line else None
    with suppress(ImportError):  # not on Windows; importing it gives input() history and editing
        import readline  # noqa: F401, PLC0415
    try:
        return input("> ").strip()
    except EOFError:
        return None
