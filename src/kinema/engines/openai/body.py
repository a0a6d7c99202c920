"""The JSON that a request is sent as."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.messages import (
    ImagePart,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import frame_label
from kinema.types import Frames


def chat_body(request: Request, model: str) -> dict[str, Any]:
    """The body of ``chat/completions``: messages, and how the answer is sampled."""
    messages = [_message(message) for message in request.conversation.messages]
    return {"model": model, "messages": messages} | parameters(request.params)


def parameters(params: SamplingParams) -> dict[str, Any]:
    """The API's own parameters always, the extensions that many servers have when they matter."""
    body: dict[str, Any] = {
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
    }
    optional = {
        "stop": list(params.stop) or None,
        "seed": params.seed,
        "logprobs": True if params.logprobs is not None else None,
        "top_logprobs": params.logprobs,
        "top_k": params.top_k or None,
        "min_tokens": params.min_new_tokens or None,
        "response_format": _response_format(params.json_schema),
        "repetition_penalty": params.repetition_penalty if params.repetition_penalty != 1 else None,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _response_format(schema: str | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    named = {"name": "answer", "schema": json.loads(schema), "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _message(message: Message) -> dict[str, Any]:
    if all(isinstance(part, TextPart) for part in message.parts):
        return {"role": message.role, "content": message.text}
    content = [piece for part in message.parts for piece in _content(part)]
    return {"role": message.role, "content": content}


def _content(part: Part) -> Iterator[dict[str, Any]]:
    if isinstance(part, TextPart):
        yield {"type": "text", "text": part.text}
    elif isinstance(part, VideoPart) and isinstance(part.source, Frames):
        for seconds, pixels in part.source:
            yield {"type": "text", "text": frame_label(seconds)}
            yield _image(pixels)
    elif isinstance(part, ImagePart) and isinstance(part.source, Frames):
        yield _image(part.source.pixels[0])


def _image(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
