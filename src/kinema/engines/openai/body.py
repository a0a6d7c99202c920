"""The JSON that a request is sent as."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.chat_json import image_part, text_part, write_message, write_params
from kinema.messages import FeaturesPart, ImagePart, Message, Request, TextPart, VideoPart
from kinema.prompt import frame_label
from kinema.types import Frames


def chat_body(request: Request, model: str) -> dict[str, Any]:
    """The body of ``chat/completions``: messages, and how the answer is sampled."""
    messages = [_message(message) for message in request.conversation.messages]
    return {"model": model, "messages": messages} | write_params(request.params)


def _message(message: Message) -> dict[str, Any]:
    words_alone = all(isinstance(part, TextPart) for part in message.parts)
    return write_message(message, _pictures, as_text=words_alone)


def _pictures(medium: ImagePart | VideoPart | FeaturesPart) -> Iterator[dict[str, Any]]:
    """Frames go as pictures, each behind its time: that is what every server understands."""
    if isinstance(medium, VideoPart) and isinstance(medium.source, Frames):
        for seconds, pixels in medium.source:
            yield text_part(frame_label(seconds))
            yield _jpeg(pixels)
    elif isinstance(medium, ImagePart) and isinstance(medium.source, Frames):
        yield _jpeg(medium.source.pixels[0])


def _jpeg(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    data = base64.b64encode(buffer.getvalue()).decode()
    return image_part(f"data:image/jpeg;base64,{data}")
