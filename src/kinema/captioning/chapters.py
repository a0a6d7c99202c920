"""Neighbouring captions put together: a chapter ends where the words change most."""

from __future__ import annotations

from collections.abc import Sequence

from kinema.captioning.records import Caption
from kinema.captioning.text import jaccard

_LEAST = 0.5
_MOST = 1.5


def group(captions: Sequence[Caption], *, chapter_seconds: float) -> list[list[Caption]]:
    """Captions in chapters of about ``chapter_seconds``; every caption is in exactly one.

    A chapter lasts 0.5 to 1.5 times that long and ends where two neighbours share the fewest
    words; a rest that is shorter stays with the last chapter.
    """
    groups: list[list[Caption]] = []
    rest = list(captions)
    while rest:
        length = _length(rest, chapter_seconds)
        groups.append(rest[:length])
        rest = rest[length:]
    return groups


def _length(captions: Sequence[Caption], chapter_seconds: float) -> int:
    begin, end = captions[0].start_seconds, captions[-1].end_seconds
    least, most = _LEAST * chapter_seconds, _MOST * chapter_seconds
    if end - begin <= most:
        return len(captions)
    candidates = [
        i
        for i in range(1, len(captions))
        if least <= captions[i].start_seconds - begin <= most
        and end - captions[i].start_seconds >= least
    ]
    if not candidates:
        longer = (i for i in range(1, len(captions)) if captions[i].start_seconds - begin > least)
        return next(longer, len(captions))
    return min(candidates, key=lambda i: jaccard(captions[i - 1].text, captions[i].text))
