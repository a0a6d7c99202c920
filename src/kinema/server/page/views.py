"""Pieces of HTML, from macros that escape everything that came from outside."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kinema.captioning.records import VideoRecord
from kinema.errors import KinemaError
from kinema.pages import template
from kinema.types import Frames
from kinema.video.data_uri import jpeg_uri

_PIECES: Any = template(Path(__file__).with_name("views.html")).module
_MOST_THUMBNAILS = 24
_THUMBNAIL_PIXELS = (192, 108)


def clock(seconds: float) -> str:
    """``1:05.2``, or ``1:02:03.0`` from an hour on."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, tenths = divmod(rest, 600)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{tenths // 10:02}.{tenths % 10}"


def film_strip(frames: Frames | None) -> str:
    """The frames that the model sees, each a button that takes the player to its time."""
    if frames is None:
        return ""
    shown = frames[np.unique(np.linspace(0, len(frames) - 1, _MOST_THUMBNAILS).astype(int))]
    pictures = [Image.fromarray(pixels) for pixels in shown.pixels]
    for picture in pictures:
        picture.thumbnail(_THUMBNAIL_PIXELS)
    return str(_PIECES.film_strip(frames, shown, list(map(jpeg_uri, pictures)), clock))


def outline(record: VideoRecord) -> str:
    """Title, summary, chapters and captions; each line takes the player to its time."""
    chapters = [(chapter, chapter.title, chapter.summary) for chapter in record.chapters]
    captions = [(one, one.text or f"({one.error})", ()) for one in record.captions]
    return str(_PIECES.outline(record, chapters, captions, clock))


def links(addresses: Iterable[tuple[str, str, str]]) -> str:
    """Download links from (label, file name, address) each."""
    return str(_PIECES.links(addresses))


def text_address(text: str, kind: str) -> str:
    """A ``data:`` address that holds the text."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def error_card(problem: KinemaError) -> str:
    """What went wrong and what to do, in our own words."""
    return str(_PIECES.error_card(problem))


def progress_card(sentence: str) -> str:
    """What is going on."""
    return str(_PIECES.progress_card(sentence))
