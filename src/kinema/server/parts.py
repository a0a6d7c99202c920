"""From the wire to a conversation: every part form that clients write becomes one of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from kinema.errors import UsageError
from kinema.messages import (
    Conversation,
    ImagePart,
    Message,
    Part,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.server.schema import (
    ChatMessage,
    ChatRequest,
    Content,
    FileContent,
    ImageContent,
    ResponseFormat,
    SamplingFields,
    TextContent,
    Url,
    VideoContent,
    VideoUrl,
)
from kinema.structured import read_schema
from kinema.types import FrameSampling

FindFile = Callable[[str], Path]
"""The path of an uploaded file; raises ``NotFound``."""

_MOST_MEDIA = 64
_LONGEST_SCHEMA = 65_536
_SAMPLING = [field.name for field in fields(FrameSampling)]


def conversation_of(request: ChatRequest, find_file: FindFile) -> Conversation:
    """What the request says, sources not read yet.

    Raises:
        UsageError: a part names no source or several, or contradicts itself.
        NotFound: an uploaded file that is not there.
    """
    default = _default_sampling(request)
    reader = _Reader(find_file, default)
    conversation = Conversation(tuple(reader.message(message) for message in request.messages))
    if len(conversation.media) > _MOST_MEDIA:
        raise UsageError(
            f"The request holds {len(conversation.media)} images and videos.",
            hint=f"{_MOST_MEDIA} are allowed.",
        )
    if request.messages[-1].role == "assistant":
        raise UsageError("The last message is the assistant's.", hint="End with the user's.")
    return conversation


def params_of(request: ChatRequest) -> SamplingParams:
    """How the model is to pick its words.

    Raises:
        UsageError: values that contradict each other.
    """
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    longest = request.max_completion_tokens or request.max_tokens
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(0, request.top_k),
        repetition_penalty=request.repetition_penalty,
        max_new_tokens=longest or SamplingParams().max_new_tokens,
        min_new_tokens=request.min_tokens,
        stop=stop,
        seed=request.seed,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        json_schema=_schema_of(request.response_format),
    )


def _schema_of(wanted: ResponseFormat | None) -> str | None:
    """The schema that answers must follow, in one spelling."""
    if wanted is None or wanted.type == "text":
        return None
    schema = {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_
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


def _default_sampling(request: ChatRequest) -> FrameSampling:
    """What holds for every video that says nothing itself; vLLM's two places for it."""
    given = [request.mm_processor_kwargs, (request.media_io_kwargs or _NO_MEDIA).video]
    found = [_sampling(fields_) for fields_ in given if fields_ is not None]
    if len(found) > 1 and found[0] != found[1]:
        raise UsageError(
            "mm_processor_kwargs and media_io_kwargs ask for different frames.",
            hint="Give one of them.",
        )
    return found[0] if found else FrameSampling()


class _NoMedia:
    video: SamplingFields | None = None


_NO_MEDIA = _NoMedia()


def _sampling(given: SamplingFields) -> FrameSampling:
    values = {name: getattr(given, name) for name in _SAMPLING}
    values["at"] = tuple(values["at"]) if values["at"] is not None else None
    return FrameSampling(**values)


class _Reader:
    """Turns messages, knowing the uploads and the request's default sampling."""

    def __init__(self, find_file: FindFile, default: FrameSampling) -> None:
        self._find_file = find_file
        self._default = default

    def message(self, message: ChatMessage) -> Message:
        role = "system" if message.role == "developer" else message.role
        content = message.content if message.content is not None else ""
        if isinstance(content, str):
            return Message(role, (TextPart(content),))
        return Message(role, tuple(map(self._part, content)))

    def _part(self, content: Content) -> Part:
        if isinstance(content, TextContent):
            return TextPart(content.text)
        if isinstance(content, ImageContent):
            return ImagePart(self._image_source(content))
        if isinstance(content, VideoContent):
            return VideoPart(self._video_source(content), self._sampling(content))
        return VideoPart(self._file_source(content), self._sampling(content))

    def _image_source(self, content: ImageContent) -> str | Path:
        named = content.image_url
        given = (
            named.url if isinstance(named, Url) else named,
            content.image,
            content.url,
            content.path,
        )
        return self._one_source(content.type, given, content.file_id)

    def _video_source(self, content: VideoContent) -> str | Path:
        nested = (content.video_url, content.input_video)
        named = [n.url if isinstance(n, VideoUrl) else n for n in nested]
        given = (*named, content.video, content.url, content.path, content.data)
        return self._one_source(content.type, given, content.file_id)

    def _file_source(self, content: FileContent) -> str | Path:
        return self._one_source("file", (content.file.file_data,), content.file.file_id)

    def _one_source(
        self, kind: str, given: tuple[str | None, ...], file_id: str | None
    ) -> str | Path:
        sources = [source for source in given if source is not None]
        if len(sources) + (file_id is not None) != 1:
            raise UsageError(
                f"A part of type {kind} names {len(sources) + (file_id is not None)} sources.",
                hint='Give one, as in {"type": "video_url", "video_url": {"url": ...}}.',
            )
        return self._find_file(file_id) if file_id is not None else sources[0]

    def _sampling(self, content: VideoContent | FileContent) -> FrameSampling:
        own = _sampling(content)
        nested = getattr(content, "video_url", None) or getattr(content, "input_video", None)
        if isinstance(nested, VideoUrl) and (inner := _sampling(nested)) != FrameSampling():
            if own != FrameSampling():
                raise UsageError(
                    "A part asks for frames beside its address and inside it.",
                    hint="Keep one of them.",
                )
            own = inner
        if own.is_default and not self._default.is_default:
            start = own.start if own.start is not None else self._default.start
            end = own.end if own.end is not None else self._default.end
            return replace(self._default, start=start, end=end)
        return own
