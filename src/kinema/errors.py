"""Every error that kinema raises on purpose.

    KinemaError                                                           blame
    ├── UsageError            the call itself is wrong          exit 2    run
    │   └── UnknownName       a name that no table holds (near match given)
    ├── MediaError            the file, URL or bytes cannot be used       input
    │   ├── MediaNotFound     not_found
    │   ├── NotAFile          not_a_file
    │   ├── NotMedia          not_media
    │   ├── NoVideoStream     no_video_stream
    │   ├── Truncated         truncated
    │   ├── NoFrames          no_frames
    │   ├── NoSubtitles       no_subtitles
    │   ├── EmptyRange        empty_range
    │   ├── TooLarge          too_large
    │   ├── DecodeFailed      decode_failed
    │   ├── DecodeDeadline    decode_deadline
    │   ├── DecoderCrashed    decoder_crashed
    │   ├── PathNotAllowed    path_not_allowed
    │   ├── UrlNotAllowed     url_not_allowed
    │   ├── SourceChanged     source_changed
    │   └── FetchFailed       fetch_failed
    ├── ModelError            a checkpoint cannot be used                 run
    │   ├── ModelNotFound     model_not_found
    │   ├── UnsafeModel       unsafe_model
    │   ├── MissingPackage    missing_package
    │   ├── MissingCapability missing_capability            exit 2
    │   │   └── MediumRefused missing_capability                          request
    │   ├── AccessRefused     access_refused
    │   ├── ContextTooLong    context_too_long                            request
    │   ├── RequestRefused    request_refused                             request
    │   │   ├── SchemaMisfit  schema_misfit                               request
    │   │   └── BrokenLogits  broken_logits                               request
    │   ├── RequestFailed     request_failed                              request
    │   ├── OutOfMemory       out_of_memory                               engine
    │   ├── EngineDied        engine_died                                 engine
    │   └── EngineUnreachable engine_unreachable                          engine
    ├── Busy                  too many requests wait already              engine
    ├── PartialFailure        finished, and some items failed   exit 3    run
    └── Unfinished            stopped, and units are still to do exit 4   run

An error without an exit status of its own ends a command with 1. ``error.blame`` says whose fault
it is, and with it what a job does: what is wrong with one input or one request fails that unit by
name; what the engine or the network did, and what is wrong with the whole run, never becomes an
answer or a score: the run stops and its units stay to do.

``str(error)`` is one plain sentence; ``error.hint`` says what to do next; ``error.code`` never
changes between releases. Messages hold no native pointers, URL queries or credentials.

Sentences are written with flags (``--num-frames 8``). The command line says them so
(:func:`saying_flags`), Python names the keyword (``num_frames 8``) and HTTP the field.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

Blame = Literal["input", "request", "engine", "run"]
"""Whose fault an error is: one video's, one request's, the engine's (or the network's on the way
to it), or the whole run's."""


class KinemaError(Exception):
    """Base of the tree: a sentence, a hint, a stable code, an exit status and a blame."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    blame: ClassVar[Blame] = "run"
    settles: ClassVar[Literal["failed", "skipped", "quarantined"]] = "failed"
    """What becomes of a unit whose input or request this error blames."""
    may_pass: ClassVar[bool] = False
    """Whether a second try of the same unit may end better."""

    def __init_subclass__(cls) -> None:
        # What a class is called, in small letters, where it has no other code.
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.written = (message, hint)
        """Message and hint with flags, wherever they are read."""
        super().__init__(_said(message))
        self.hint = _said(hint)

    @property
    def sentence(self) -> str:
        """Message and hint in one line, as records and ledgers keep it."""
        return f"{as_sentence(str(self))} {self.hint}" if self.hint else str(self)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the border of worker processes, so the hint has to survive pickling.
        return (_rebuild, (type(self), dict(self.__dict__)))


def as_sentence(text: str) -> str:
    """A sentence that another may follow: words of a server or a library often lack the stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _rebuild(kind: type[KinemaError], state: dict[str, Any]) -> KinemaError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    message, hint = error.written
    Exception.__init__(error, _said(message))
    error.hint = _said(hint)
    return error


_SETTING = re.compile(
    r"(?P<command>`[^`]*`|(?:pip install|torchrun|kinema [a-z]+) .*)|--(?P<name>[a-z]\w*(?:-\w+)*)"
)
"""A command to type, which stays as it is, or a flag outside of one."""
_PYTHON = {"schema": "json_schema"}
"""Keywords that are called otherwise than their flags."""
_flags = 0


@contextmanager
def saying_flags() -> Iterator[None]:
    """Within, errors name flags, as on the command line."""
    global _flags  # noqa: PLW0603  threads and loops of one process speak to the same person
    _flags += 1
    try:
        yield
    finally:
        _flags -= 1


def _said(text: str) -> str:
    return text if _flags else in_fields(text)


def in_fields(text: str, names: Mapping[str, str] = _PYTHON) -> str:
    """A sentence that names fields instead of flags.

    Args:
        text: with flags.
        names: of fields, by their flags, where they are others than the flags' own.
    """

    def field(found: re.Match[str]) -> str:
        name = (found["name"] or "").replace("-", "_")
        return found["command"] or names.get(name, name)

    return _SETTING.sub(field, text.replace("See --help.", "Choose another value."))


class UsageError(KinemaError):
    """The caller asked for something that no input could satisfy."""

    code = "usage"
    exit_code = 2


class UnknownName(UsageError):
    """A model, engine, formula or setting that does not exist; suggests the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        suggestion = f"Did you mean {near[0]!r}? " if near else ""
        listing = f"Known: {', '.join(known)}." if known else "None is installed."
        super().__init__(f"There is no {kind} {name!r}.", hint=hint or suggestion + listing)
        self.name = name


class MediaError(KinemaError):
    """The media cannot be used as it is."""

    code = "media"
    blame = "input"


class MediaNotFound(MediaError):
    """Nothing exists at the given path or address."""

    code = "not_found"


class NotAFile(MediaError):
    """A directory, device or pipe stands where a file was expected, or it cannot be read."""


class NotMedia(MediaError):
    """The bytes are no container that the decoder knows."""


class NoVideoStream(MediaError):
    """The container is fine and holds no moving or still picture."""

    settles = "skipped"


class Truncated(MediaError):
    """The file ends before its own index says it should."""


class NoFrames(MediaError):
    """A video stream exists and not one picture could be decoded."""


class NoSubtitles(MediaError):
    """A video has no subtitles, not the ones that were asked for, or they are no text."""


class EmptyRange(MediaError):
    """No frame lies between the asked start and end."""


class TooLarge(MediaError):
    """A byte, pixel, frame or packet budget would be exceeded."""


class DecodeFailed(MediaError):
    """The decoder reported an error that none of the narrower classes describes."""


class DecodeDeadline(MediaError):
    """Decoding took longer than its deadline and was stopped."""

    may_pass = True


class DecoderCrashed(MediaError):
    """The decoder's process died."""

    settles = "quarantined"
    may_pass = True


class SourceChanged(MediaError):
    """The file was deleted or replaced while it was being read or worked on."""


class PathNotAllowed(MediaError):
    """The path lies outside the folders that may be read."""


class UrlNotAllowed(MediaError):
    """The address is private, of a forbidden scheme, or redirects to one that is."""


class FetchFailed(MediaError):
    """The other server refused, answered nonsense, broke off or took too long."""

    may_pass = True


class ModelError(KinemaError):
    """A checkpoint or engine cannot do what was asked."""

    code = "model"


class ModelNotFound(ModelError):
    """No such folder, and no such model on a hub that can be reached."""


class UnsafeModel(ModelError):
    """Loading would run code or unpickle objects from the checkpoint."""


class MissingPackage(ModelError):
    """An optional package is not installed; the hint holds the command that installs it."""


class MissingCapability(ModelError):
    """This family or engine cannot do what the call asks for; the hint names the ones that can."""

    exit_code = 2


class MediumRefused(MissingCapability):
    """The model does not take this kind of medium, or this combination of media."""

    code = "missing_capability"
    blame = "request"


class AccessRefused(ModelError):
    """A server does not accept the key (401, 403)."""


class RequestRefused(ModelError):
    """The processor, the model or a server (400, 413, 422) does not take this request."""

    blame = "request"


class SchemaMisfit(RequestRefused):
    """The answer is not the JSON that was asked for."""


class BrokenLogits(RequestRefused):
    """What the model computes of this request is NaN or infinite."""


class RequestFailed(ModelError):
    """The engine failed at this request alone, while others were answered."""

    blame = "request"


class ContextTooLong(ModelError):
    """Prompt, frames and answer do not fit the model's context.

    Attributes:
        needed: tokens that prompt and answer would take.
        available: tokens that the model has.
        largest_num_frames: the most frames that fit, or None when even one does not.
    """

    blame = "request"

    def __init__(self, *, needed: int, available: int, largest_num_frames: int | None) -> None:
        if largest_num_frames is None:
            hint = "Even one frame does not fit: shorten the prompt or lower --max-new-tokens."
        else:
            hint = (
                f"Use --num-frames {largest_num_frames} or less, or --fit to reduce them for you."
            )
        super().__init__(
            f"The request needs {needed} tokens and the model has {available}.", hint=hint
        )
        self.needed = needed
        self.available = available
        self.largest_num_frames = largest_num_frames


class OutOfMemory(ModelError):
    """The device ran out of memory."""

    blame = "engine"


class EngineDied(ModelError):
    """The engine's process or device is gone."""

    blame = "engine"


class EngineUnreachable(ModelError):
    """A server is out of reach, too busy or failing (408, 429, 5xx), also after several tries.

    Attributes:
        failed_at_request: it was reached and failed (5xx). That becomes the request's fault
            (``RequestFailed``) when others are answered since.
    """

    blame = "engine"

    def __init__(self, message: str, *, hint: str = "", failed_at_request: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.failed_at_request = failed_at_request


class Busy(KinemaError):
    """A server has as many requests as it takes, or is shutting down; later may be better.

    Attributes:
        retry_after_seconds: when to ask again.
    """

    blame = "engine"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message, hint=f"Ask again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class PartialFailure(KinemaError):
    """A job ran to its end and some of its items failed."""

    code = "partial"
    exit_code = 3


class Unfinished(KinemaError):
    """A job stopped early; what is left to do is done by the same command, run again."""

    exit_code = 4
