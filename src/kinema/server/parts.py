"""From the body of a request, checked field by field, to a conversation and a sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinema import chat_json
from kinema.errors import UsageError
from kinema.messages import Conversation, SamplingParams
from kinema.server.schema import ChatRequest
from kinema.types import FrameSampling

FindFile = Callable[[str], Path]
"""The path of an uploaded file; raises ``NotFound``."""

_MOST_MEDIA = 64


def conversation_of(request: ChatRequest, find_file: FindFile) -> Conversation:
    """What the request says, sources not read yet.

    Raises:
        UsageError: a part names no source or several, or contradicts itself.
        NotFound: an uploaded file that is not there.
    """

    def source(written: str, named: Mapping[str, Any]) -> str | Path:
        given = {key: value for key, value in named.items() if key != "file"}
        file = named.get("file", {})
        given |= {key: file[key] for key in ("file_id", "file_data") if key in file}
        if len(given) != 1:
            raise UsageError(
                f"A part of type {written} names {len(given)} sources.",
                hint='Give one, as in {"type": "video_url", "video_url": {"url": ...}}.',
            )
        ((key, value),) = given.items()
        if key == "file_id":
            return find_file(value)
        return str(value["url"] if isinstance(value, Mapping) else value)

    conversation = chat_json.read_messages(
        # A turn of the assistant's may have a refusal or tool calls in place of its content.
        [
            {"content": ""} | message.model_dump(exclude_unset=True, exclude_none=True)
            for message in request.messages
        ],
        source=source,
        frames=_default_sampling(request),
    )
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
    body = request.model_dump(exclude={"messages", "response_format"}, exclude_none=True)
    if wanted := request.response_format:
        # By hand: pydantic refuses to dump a schema that is nested deeply.
        schema = wanted.json_schema and {"schema": wanted.json_schema.schema_}
        body["response_format"] = {"type": wanted.type, "json_schema": schema}
    return chat_json.read_params(body)


def _default_sampling(request: ChatRequest) -> FrameSampling:
    """What holds for every video that says nothing itself; vLLM's two places for it."""
    media_io = request.media_io_kwargs
    places = [request.mm_processor_kwargs, media_io.video if media_io else None]
    found = [
        chat_json.read_frames(place.model_dump(exclude_unset=True))
        for place in places
        if place is not None
    ]
    if len(found) > 1 and found[0] != found[1]:
        raise UsageError(
            "mm_processor_kwargs and media_io_kwargs ask for different frames.",
            hint="Give one of them.",
        )
    return found[0] if found else FrameSampling()
