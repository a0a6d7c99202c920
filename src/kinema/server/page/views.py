"""Pieces of HTML: everything that came from outside is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from kinema.captioning.records import VideoRecord
from kinema.errors import KinemaError
from kinema.types import Frames

_MOST_THUMBNAILS = 24
_THUMBNAIL_PIXELS = (192, 108)
_Line = tuple[float, str, Sequence[str]]
"""Seconds, what happens then, and more about it."""


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
    items = "".join(
        f'<li><button type="button" data-seek="{seconds:.3f}" '
        f'aria-label="Frame at {clock(seconds)}, go there">'
        f'<img src="{_thumbnail(picture)}" alt=""><span>{clock(seconds)}</span></button></li>'
        for seconds, picture in shown
    )
    some = f"; {len(shown)} of them are here" if len(shown) < len(frames) else ""
    noted = "".join(f'<p class="note">{escape(warning)}</p>' for warning in frames.warnings)
    head = f'<p class="seen">What the model sees: {_seen(frames)}{some}.</p>'
    return f'{head}<ol class="strip" data-duration="{_duration(frames):.3f}">{items}</ol>{noted}'


def outline(record: VideoRecord) -> str:
    """Title, summary, chapters and captions; each line takes the player to its time."""
    chapters = (
        (chapter.start_seconds, chapter.title, [s.text for s in chapter.summary])
        for chapter in record.chapters
    )
    captions: Iterable[_Line] = (
        (c.start_seconds, c.text or f"({c.error})", []) for c in record.captions
    )
    return (
        f'<h3 class="title">{escape(record.title)}</h3>'
        f"<p>{escape(record.summary_text)}</p>"
        f"{_list('Chapters', 'chapters', chapters)}{_list('Captions', 'captions', captions)}"
    )


def links(addresses: Iterable[tuple[str, str, str]]) -> str:
    """Download links from (label, file name, address) each."""
    return "".join(
        f'<a class="download" href="{escape(address)}" download="{escape(name)}">'
        f"{escape(label)}</a>"
        for label, name, address in addresses
    )


def text_address(text: str, kind: str) -> str:
    """A ``data:`` address that holds the text."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def error_card(problem: KinemaError) -> str:
    """What went wrong and what to do, in our own words."""
    hint = f"<p>{escape(problem.hint)}</p>" if problem.hint else ""
    return f'<div class="card error" role="alert"><p><b>{escape(str(problem))}</b></p>{hint}</div>'


def progress_card(sentence: str) -> str:
    """What is going on."""
    return f'<div class="card" role="status"><span class="pulse"></span>{escape(sentence)}</div>'


def _list(title: str, name: str, lines: Iterable[_Line]) -> str:
    items = "".join(
        f'<li><button type="button" data-seek="{seconds:.3f}"><span>{clock(seconds)}</span>'
        f"<b>{escape(text)}</b>{''.join(f'<i>{escape(more)}</i>' for more in rest)}</button></li>"
        for seconds, text, rest in lines
    )
    return f'<h4>{title}</h4><ol class="lines {name}">{items}</ol>' if items else ""


def _thumbnail(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail(_THUMBNAIL_PIXELS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _seen(frames: Frames) -> str:
    return escape(frames.seen.removeprefix("saw "))


def _duration(frames: Frames) -> float:
    return frames.duration_seconds or float(frames.seconds[-1])
