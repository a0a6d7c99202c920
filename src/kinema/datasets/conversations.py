"""Conversations in data files: :mod:`kinema.chat_json`, with media where the file says they are.

Paths are relative to the file's folder. Parts may name no medium: ``{"type": "video"}`` takes the
next one of a column beside the messages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinema.chat_json import KINDS, image_part, read_messages, video_part, write_message
from kinema.errors import UsageError
from kinema.messages import Conversation, FeaturesPart, ImagePart, TextPart, VideoPart

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
    supplies = {"video": videos, "image": images}

    def source(written: str, named: Mapping[str, Any]) -> Any:
        kind = KINDS[written]
        if (first := next(filter(None, named.values()), None)) is not None:
            return media_source(first, folder)
        if (supplied := next(supplies.get(kind, iter(())), None)) is None:
            raise UsageError(f"A part of type {written} names no {kind}.", hint="Give `path`.")
        return supplied

    return read_messages(messages, source=source)


def conversation_to_json(conversation: Conversation, folder: Path) -> list[dict[str, Any]]:
    """The messages as :func:`conversation_from_json` reads them; paths relative to ``folder``.

    Raises:
        UsageError: a medium is in memory, so that there is no path to write.
    """

    def medium(part: ImagePart | VideoPart | FeaturesPart) -> Iterator[dict[str, Any]]:
        name = _written(part.source, folder)
        if isinstance(part, FeaturesPart):
            yield {"type": "features", "path": name}
        elif isinstance(part, ImagePart):
            yield image_part(name)
        elif isinstance(name, list):
            yield {"type": "video", "video": name} | part.sampling.to_dict()
        else:
            yield video_part(name, part.sampling)

    messages = []
    for message in conversation.messages:
        # One text without tags: words in a list are never searched for ``<video>``.
        first = message.parts[0]
        plain = len(message.parts) == 1 and isinstance(first, TextPart) and "<" not in first.text
        messages.append(write_message(message, medium, as_text=plain))
    return messages


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
