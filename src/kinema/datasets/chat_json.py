"""Conversations as JSON: OpenAI's chat schema, with a part more for precomputed features.

A message is ``{"role", "content"}``; its content is words, or a list of parts: ``{"type": "text",
"text"}``, ``{"type": "image_url", "image_url": {"url"}}``, ``{"type": "video_url", "video_url":
{"url"}}`` with the fields of :class:`~kinema.types.FrameSampling` beside the address, and
``{"type": "features", "path"}``. Other programs' spellings of these parts are read as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
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
    TextPart,
    VideoPart,
)
from kinema.types import FrameSampling

_SAMPLING = [field.name for field in fields(FrameSampling)]
_SOURCES = ("url", "path")
_KINDS = {
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "text": "text",
    "input_text": "text",
    "features": "features",
}
"""Types of parts: OpenAI's, Qwen's, Hugging Face's, llama.cpp's."""

_OTHER_KEYS = {"type", "text", "detail", *_KINDS, *_SOURCES}

Supply = Iterator[Any]
"""Sources that stand beside the messages, for parts that name none themselves."""


def conversation_from_json(
    messages: Any,
    folder: Path,
    *,
    videos: Supply = iter(()),
    images: Supply = iter(()),
) -> Conversation:
    """Read a list of messages; relative media paths start at ``folder``.

    Args:
        messages: a list of ``{"role", "content"}``.
        folder: where the data file is.
        videos: for parts ``{"type": "video"}`` without a source, in order.
        images: for parts ``{"type": "image"}`` without a source, in order.

    Raises:
        UsageError: something in it is no message or no part.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UsageError("`messages` is no list of messages.", hint="Give at least one turn.")
    reader = _Reader(folder, {"video": videos, "image": images})
    return Conversation(tuple(map(reader.message, messages)))


def conversation_to_json(conversation: Conversation, folder: Path) -> list[dict[str, Any]]:
    """The messages as :func:`conversation_from_json` reads them; paths relative to ``folder``.

    Raises:
        UsageError: a medium is in memory, so that there is no path to write.
    """
    return [_write_message(message, folder) for message in conversation.messages]


def media_source(value: Any, folder: Path) -> Any:
    """A medium as data files name it: an address as it is, a path from ``folder``.

    A list is the frames of one video; ``{"path", "bytes"}`` is Hugging Face's ``Video()``.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or value.get("url")
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and value:
        return [media_source(item, folder) for item in value]
    if not isinstance(value, str) or not value:
        raise UsageError(f"A medium is named {value!r}.", hint="Give its path or address.")
    if "://" in value or value.startswith("data:"):
        return value
    return folder / value


class _Reader:
    """Reads messages, taking media of bare parts from the columns beside them."""

    def __init__(self, folder: Path, supplies: Mapping[str, Supply]) -> None:
        self._folder = folder
        self._supplies = supplies

    def message(self, message: Any) -> Message:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise UsageError("A message has no role and content.", hint='{"role", "content"}')
        role = message["role"]
        if role not in get_args(Role):
            raise UnknownName("role", str(role), get_args(Role))
        content = message["content"]
        if isinstance(content, str):
            return Message(role, (TextPart(content),))
        if not isinstance(content, list):
            raise UsageError(
                "`content` is neither words nor a list of parts.", hint="Give one of these."
            )
        return Message(role, tuple(map(self._part, content)))

    def _part(self, part: Any) -> Part:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in _KINDS:
            raise UnknownName("part type", str(kind), _KINDS)
        for key in part:
            if key not in _OTHER_KEYS and key not in _SAMPLING:
                raise UnknownName(f"field of a {kind} part", key, _SAMPLING)
        read: dict[str, Callable[[Mapping[str, Any]], Part]] = {
            "text": lambda p: TextPart(str(p.get("text", ""))),
            "image": lambda p: ImagePart(self._source(p, "image")),
            "video": lambda p: VideoPart(self._source(p, "video"), _sampling(p)),
            "features": lambda p: FeaturesPart(Path(self._source(p, "features"))),
        }
        return read[_KINDS[kind]](part)

    def _source(self, part: Mapping[str, Any], kind: str) -> Any:
        named = [part[key] for key in (part["type"], kind, *_SOURCES) if part.get(key)]
        if named:
            return media_source(named[0], self._folder)
        if (source := next(self._supplies.get(kind, iter(())), None)) is None:
            raise UsageError(f"A part of type {part['type']} names no {kind}.", hint="Give `path`.")
        return source


def _sampling(part: Mapping[str, Any]) -> FrameSampling:
    """The fields of a sampling, beside the address or in its object."""
    nested = part.get(part["type"])
    given = {**(nested if isinstance(nested, Mapping) else {}), **part}
    values = {name: given[name] for name in _SAMPLING if given.get(name) is not None}
    if "at" in values:
        values["at"] = tuple(values["at"])
    return FrameSampling(**values)


def _write_message(message: Message, folder: Path) -> dict[str, Any]:
    first = message.parts[0]
    if len(message.parts) == 1 and isinstance(first, TextPart) and "<" not in first.text:
        return {"role": message.role, "content": first.text}
    # Words in a list are never searched for tags.
    return {"role": message.role, "content": [_write_part(p, folder) for p in message.parts]}


def _write_part(part: Part, folder: Path) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    name = _written(part.source, folder)
    if isinstance(part, FeaturesPart):
        return {"type": "features", "path": name}
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": name}}
    if isinstance(name, list):
        return {"type": "video", "video": name} | part.sampling.to_dict()
    return {"type": "video_url", "video_url": {"url": name}} | part.sampling.to_dict()


def _written(source: Any, folder: Path) -> Any:
    if isinstance(source, list | tuple):
        return [_written(item, folder) for item in source]
    if isinstance(source, Path):
        return os.path.relpath(source, folder)
    if isinstance(source, str):
        return source
    raise UsageError(
        f"A medium is {type(source).__name__} in memory and has no path.", hint="Save it first."
    )
