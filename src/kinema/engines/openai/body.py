"""The JSON that a request is sent as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.chat_json import image_part, text_part, write_message, write_params
from kinema.messages import (
    FeaturesPart,
    ImagePart,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import frame_label
from kinema.types import Frames
from kinema.video.data_uri import jpeg_uri

_SMALL_PIXELS = 64


def chat_body(request: Request, model: str) -> dict[str, Any]:
    """The body of ``chat/completions``: messages, and how the answer is sampled."""
    messages = [
        write_message(
            message, _pictures, as_text=all(isinstance(part, TextPart) for part in message.parts)
        )
        for message in request.conversation.messages
    ]
    return {"model": model, "messages": messages} | write_params(request.params)


def small_body(request: Request, model: str) -> dict[str, Any]:
    """A request of the same kind that asks for little: a word, about one grey picture if any."""
    content = [text_part("Say yes.")]
    if request.media:
        content.append(_jpeg(np.full((_SMALL_PIXELS, _SMALL_PIXELS, 3), 128, np.uint8)))
    asked = {"model": model, "messages": [{"role": "user", "content": content}]}
    return asked | write_params(SamplingParams(max_new_tokens=8))


def _pictures(medium: ImagePart | VideoPart | FeaturesPart) -> Iterator[dict[str, Any]]:
    """Frames go as pictures, each behind its time: that is what every server understands."""
    if isinstance(medium, VideoPart) and isinstance(medium.source, Frames):
        for seconds, pixels in medium.source:
            yield text_part(frame_label(seconds))
            yield _jpeg(pixels)
    elif isinstance(medium, ImagePart) and isinstance(medium.source, Frames):
        yield _jpeg(medium.source.pixels[0])


def _jpeg(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    return image_part(jpeg_uri(Image.fromarray(pixels), quality=95))
