"""``data:`` addresses: a whole video, one picture, or a list of JPEG frames (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from kinema.errors import NotMedia
from kinema.video.access import Budget

_FRAME_LIST = "video/jpeg"
"""Frames as base64 JPEG files, one after the other with commas between: what vLLM reads too."""
_LONGEST_HEADER = 128


def jpeg(picture: Image.Image, *, quality: int = 80) -> bytes:
    """A picture as a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def jpeg_uri(picture: Image.Image, *, quality: int = 80) -> str:
    """A picture inside an address, as a JPEG file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, quality=quality)).decode()


def is_data_uri(text: str) -> bool:
    """True for ``data:…``, whatever follows."""
    return text[:5].lower() == "data:"


def is_frame_list(text: str) -> bool:
    """True for frames one after the other, ``data:video/jpeg;base64,frame,frame,…``."""
    return is_data_uri(text) and _read_header(text)[0] == _FRAME_LIST


def decode_data_uri(text: str, budget: Budget) -> tuple[str, bytes]:
    """A name and the content of a ``data:`` address that is one file.

    Raises:
        TooLarge: more bytes than the budget; nothing is decoded then.
        NotMedia: another kind of content, another encoding, or damaged base64.
    """
    name, body_at = _checked_header(text, budget)
    return name, _decode(name, text[body_at:])


def decode_frame_list(text: str, budget: Budget) -> tuple[str, list[bytes]]:
    """A name and the JPEG files of a frame list.

    Raises:
        TooLarge: more bytes or frames than the budget; nothing is decoded then.
        NotMedia: another encoding, or damaged base64.
    """
    name, body_at = _checked_header(text, budget)
    budget.check_frames(name, text.count(",", body_at) + 1)
    return name, [_decode(name, frame) for frame in text[body_at:].split(",")]


def _read_header(text: str) -> tuple[str, list[str], int]:
    """Media type, attributes, and where the payload begins."""
    comma = text.find(",", 0, _LONGEST_HEADER)
    kind, *attributes = text[5 : max(comma, 0)].lower().split(";")
    return kind, attributes, comma + 1


def _checked_header(text: str, budget: Budget) -> tuple[str, int]:
    """What to call the address without its payload, and where that begins."""
    kind, attributes, body_at = _read_header(text)
    name = f"data:{kind}"
    if not kind.startswith(("video/", "image/")):
        raise NotMedia(
            f"{name} is no video or picture.",
            hint="Write data:video/mp4;base64,… or data:video/jpeg;base64,frame,frame,…",
        )
    if "base64" not in attributes:
        raise NotMedia(f"{name} is not in base64.", hint=f"Write {name};base64,…")
    budget.check_bytes(name, (len(text) - body_at) * 3 // 4)
    return name, body_at


def _decode(name: str, body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise NotMedia(f"{name} holds damaged base64.", hint="Encode the file again.") from None
