"""OpenAI's chat schema: messages, their parts and the sampling of an answer, read and written.

A message is ``{"role", "content"}``; its content is a text, or a list of parts: ``{"type": "text",
"text"}``, ``{"type": "image_url", "image_url": {"url"}}``, ``{"type": "video_url", "video_url":
{"url"}}`` with the fields of :class:`~kinema.types.FrameSampling` beside the address or inside it,
and ``{"type": "features", "path"}``, which is ours. Parts as Qwen, Hugging Face, vLLM and llama.cpp
write them are read as well.

Who calls knows where media come from and go to: a data file has paths relative to it, a server has
uploads, an engine has decoded frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from kinema.errors import UnknownName, UsageError
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    Part,
    Role,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.structured import read_schema
from kinema.types import FrameSampling

KINDS = {
    "text": "text",
    "input_text": "text",
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    # What is in a file says whether it is a picture, so it is read as a video of any length.
    "file": "video",
    "features": "features",
}
"""Every type of a part, and which of ours it is."""

FindSource = Callable[[str, Mapping[str, Any]], Any]
"""From a part's type and all that names its medium (``{"video_url": {"url": ...}}``) to a source;
raises ``UsageError`` where nothing is named, or too much."""

WriteMedium = Callable[[ImagePart | VideoPart | FeaturesPart], Iterable[dict[str, Any]]]
"""From a medium to the parts that stand for it."""

_FRAMES = [field.name for field in fields(FrameSampling)]
_ALIASES = {"video_start": "start", "video_end": "end", "nframes": "num_frames"}
"""Fields of Qwen's own parts (qwen-vl-utils), and what they are called here."""
_SIZES = ("min_pixels", "max_pixels", "total_pixels", "resized_height", "resized_width")
_ADDRESSES = ("url", "path", "data", "file_id")
_OTHER_KEYS = {"type", "text", "detail", *KINDS, *_ADDRESSES}
_LONGEST_SCHEMA = 65_536


def read_messages(
    messages: Any, *, source: FindSource, frames: FrameSampling = FrameSampling()
) -> Conversation:
    """Read a list of messages; media are named and not opened.

    Args:
        messages: a list of ``{"role", "content"}``.
        source: see :data:`FindSource`.
        frames: which frames to take of videos that do not say it themselves; their own start and
            end stay.

    Raises:
        UsageError: something in it is not a message or not a part, or contradicts itself.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UsageError("`messages` is no list of messages.", hint="Give at least one turn.")
    return Conversation(tuple(_message(message, source, frames) for message in messages))


def write_message(message: Message, medium: WriteMedium, *, as_text: bool) -> dict[str, Any]:
    """One turn as JSON.

    Args:
        message: words and media.
        medium: see :data:`WriteMedium`.
        as_text: the content is one string instead of a list; for turns that hold words alone.
    """
    if as_text:
        return {"role": message.role, "content": message.text}
    content: list[dict[str, Any]] = []
    for part in message.parts:
        content += [text_part(part.text)] if isinstance(part, TextPart) else medium(part)
    return {"role": message.role, "content": content}


def text_part(text: str) -> dict[str, Any]:
    """Words."""
    return {"type": "text", "text": text}


def image_part(url: str) -> dict[str, Any]:
    """A picture at an address, which may be a ``data:`` one or a path."""
    return {"type": "image_url", "image_url": {"url": url}}


def video_part(url: str, frames: FrameSampling) -> dict[str, Any]:
    """A video at an address or path, and which frames to take where that is not the default."""
    return {"type": "video_url", "video_url": {"url": url}} | frames.to_dict()


def read_params(body: Mapping[str, Any]) -> SamplingParams:
    """How the model is to pick its words, from the body of a chat request.

    Raises:
        UsageError: values that contradict each other, or a schema that is not one.
        MissingPackage: there is a schema, and jsonschema is not installed.
    """
    stop = body.get("stop") or ()
    longest = body.get("max_completion_tokens") or body.get("max_tokens")
    given: dict[str, Any] = {
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        # vLLM's clients write -1 for all tokens.
        "top_k": max(0, body.get("top_k") or 0),
        "repetition_penalty": body.get("repetition_penalty"),
        "max_new_tokens": longest,
        "min_new_tokens": body.get("min_tokens"),
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
        "seed": body.get("seed"),
        "logprobs": (body.get("top_logprobs") or 0) if body.get("logprobs") else None,
        "json_schema": _schema(body.get("response_format")),
    }
    return SamplingParams(**{name: value for name, value in given.items() if value is not None})


def write_params(params: SamplingParams) -> dict[str, Any]:
    """The sampling as fields of a chat request, as :func:`read_params` reads them.

    OpenAI's own fields always; the extensions that many servers have only when they matter, because
    a server without them refuses the request.
    """
    body: dict[str, Any] = {
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
    }
    schema = params.json_schema and {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(params.json_schema), "strict": True},
    }
    optional = {
        "stop": list(params.stop) or None,
        "seed": params.seed,
        "logprobs": True if params.logprobs is not None else None,
        "top_logprobs": params.logprobs,
        "top_k": params.top_k or None,
        "min_tokens": params.min_new_tokens or None,
        "response_format": schema,
        "repetition_penalty": params.repetition_penalty if params.repetition_penalty != 1 else None,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _schema(response_format: Mapping[str, Any] | None) -> str | None:
    """The schema that answers must follow, in one spelling."""
    if response_format is None or response_format["type"] == "text":
        return None
    wrapped = response_format.get("json_schema")
    schema = {"type": "object"} if wrapped is None else wrapped["schema"]
    try:
        text = json.dumps(schema)
        if len(text) <= _LONGEST_SCHEMA:
            return read_schema(text)
    except RecursionError:
        pass
    raise UsageError(
        f"The schema is longer than {_LONGEST_SCHEMA} characters, or too deep.",
        hint="Ask for less at once.",
    )


def _message(message: Any, source: FindSource, frames: FrameSampling) -> Message:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise UsageError("A message has no role and content.", hint='{"role", "content"}')
    # OpenAI calls the system's turn the developer's since its o1 models.
    role: Any = "system" if message["role"] == "developer" else message["role"]
    if role not in get_args(Role):
        raise UnknownName("role", str(role), get_args(Role))
    content = message["content"]
    if isinstance(content, str):
        return Message(role, (TextPart(content),))
    if not isinstance(content, list):
        raise UsageError(
            "`content` is neither words nor a list of parts.", hint="Give one of these."
        )
    return Message(role, tuple(_part(part, source, frames) for part in content))


def _part(part: Any, source: FindSource, frames: FrameSampling) -> Part:
    written = part.get("type") if isinstance(part, Mapping) else None
    if written not in KINDS:
        raise UnknownName("part type", str(written), KINDS)
    for key in part:
        if key in _SIZES and part[key] is not None:
            raise UsageError(
                f"A {written} part has {key}; the model's own processor decides on sizes.",
                hint="Leave it out, or set it in the checkpoint's preprocessor_config.json.",
            )
        if key not in _OTHER_KEYS and key not in _FRAMES and key not in (*_ALIASES, *_SIZES):
            raise UnknownName(f"field of a {written} part", key, _FRAMES)
    kind = KINDS[written]
    if kind == "text":
        return TextPart(str(part.get("text", "")))
    named = dict(_named(part, kind))
    found = source(written, named)
    if kind == "image":
        return ImagePart(found)
    if kind == "features":
        return FeaturesPart(Path(found))
    return VideoPart(found, _frames(part, named, frames))


def _named(part: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """Everything in a part that names its medium, the key of its own type first."""
    alike = (name for name, of in KINDS.items() if of == kind)
    for key in dict.fromkeys((part["type"], *alike, *_ADDRESSES)):
        if part.get(key) is not None:
            yield key, part[key]


def _frames(
    part: Mapping[str, Any], named: Mapping[str, Any], default: FrameSampling
) -> FrameSampling:
    """Which frames a part asks for, beside its address and inside it."""
    given: dict[str, Any] = {}
    for place in (part, *(value for value in named.values() if isinstance(value, Mapping))):
        for written, name in (*_ALIASES.items(), *((n, n) for n in _FRAMES)):
            if (value := place.get(written)) is None:
                continue
            if given.setdefault(name, value) != value:
                raise UsageError(
                    f"A part has one {name} beside its address and another inside it.",
                    hint="Keep one of them.",
                )
    own = read_frames(given)
    if own.is_default and not default.is_default:
        start = own.start if own.start is not None else default.start
        end = own.end if own.end is not None else default.end
        track = own.track if own.track is not None else default.track
        return replace(default, start=start, end=end, track=track)
    return own


def read_frames(given: Mapping[str, Any]) -> FrameSampling:
    """A sampling from its fields as JSON; null is not given.

    Raises:
        UsageError: the fields contradict each other.
    """
    values = {name: given[name] for name in _FRAMES if given.get(name) is not None}
    if "at" in values:
        values["at"] = tuple(values["at"])
    return FrameSampling(**values)
