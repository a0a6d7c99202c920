"""``data:`` addresses: a whole video, one picture, or a list of JPEG frames (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from kinema.errors import NotMedia
from kinema.video.budget import Budget

_FRAME_LIST = "video/jpeg"
"""Frames as base64 JPEG files, one after the other with commas between: what vLLM reads too."""


@dataclass(frozen=True)
class DataUri:
    """Decoded payloads: one file, or the frames of a list in order."""

    name: str
    payloads: tuple[bytes, ...]
    is_frame_list: bool


def is_data_uri(text: str) -> bool:
    """True for ``data:…``, whatever follows."""
    return text[:5].lower() == "data:"


def parse_data_uri(text: str, budget: Budget) -> DataUri:
    """Decode a ``data:`` address, refusing on size and count before anything is decoded.

    Raises:
        TooLarge: more bytes or frames than the budget.
        NotMedia: another kind of content, another encoding, or damaged base64.
    """
    header, comma, body = text[5:].partition(",")
    kind, *attributes = header.lower().split(";")
    name = f"data:{kind[:40]}"
    if not comma or not kind.startswith(("video/", "image/")):
        raise NotMedia(
            f"{name} is no video or picture.",
            hint="Write data:video/mp4;base64,… or data:video/jpeg;base64,frame,frame,…",
        )
    if "base64" not in attributes:
        raise NotMedia(f"{name} is not in base64.", hint=f"Write data:{kind[:40]};base64,…")
    budget.check_bytes(name, len(body) * 3 // 4)
    if kind != _FRAME_LIST:
        return DataUri(name, (_decode(name, body),), is_frame_list=False)
    budget.check_frames(name, body.count(",") + 1)
    payloads = tuple(_decode(name, frame) for frame in body.split(","))
    return DataUri(name, payloads, is_frame_list=True)


def _decode(name: str, body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise NotMedia(f"{name} holds damaged base64.", hint="Encode the file again.") from None
