"""Titles without a model, and instead of one that was cut: whole phrases of what was said."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MOST_WORDS = 10
_FEWEST_WORDS = 3
"""A clause with fewer ("In the end") says nothing alone."""
_TIMES = re.compile(r"(?:,| and)? (?:at|from \d+(?:\.\d+)? to) \d+(?:\.\d+)? s(?:econds)?\b")
_LEAD = re.compile(
    r"(?:(?:the|this) (?:video|clip|picture|scene|footage) (?:shows|depicts|presents|features)"
    r"|(?:I|we) see|there (?:is|are)) (?=\w)",
    re.IGNORECASE,
)
_NEXT_THING = re.compile(r"(?:, then| then|,? followed by|,? and|,) (?=(?:an?|the|two|some) )")
_CLAUSE_END = re.compile(r"[,;:—–]\s")
ENDS = (".", "!", "?", "…", "。", "！", "？")
"""With which a whole sentence ends."""


def title_of(sentences: Sequence[str]) -> str:
    """What the sentences show ("An umbrella, a daisy and a traffic light"), or one of them.

    Nothing is cut within a phrase; where even the first clause is long, it stays long.
    """
    whole = [s for s in sentences if s.endswith(ENDS)] or list(sentences)
    plain = [_TIMES.sub("", sentence).rstrip(" .。") for sentence in whole]
    things = dict.fromkeys(thing for sentence in plain for thing in _things(sentence))
    title = _listed(_fitting(list(things))) or _short(plain)
    return title[:1].upper() + title[1:]


def _things(sentence: str) -> list[str]:
    """What a sentence says is there; nothing where it says something else."""
    lead = _LEAD.match(sentence)
    return _NEXT_THING.split(sentence[lead.end() :]) if lead else []


def _fitting(things: Sequence[str]) -> list[str]:
    """The first things, as many as a title holds."""
    kept: list[str] = []
    for thing in things:
        if len(" ".join((*kept, thing)).split()) > _MOST_WORDS:
            break
        kept.append(thing)
    return kept


def _listed(things: Sequence[str]) -> str:
    *earlier, last = things or [""]
    return f"{', '.join(earlier)} and {last}" if earlier else last


def _short(sentences: Sequence[str]) -> str:
    """The first short sentence, else a short clause that one begins with, else the first."""
    clauses = (_CLAUSE_END.split(sentence)[0] for sentence in sentences)
    candidates = (*sentences, *(c for c in clauses if len(c.split()) >= _FEWEST_WORDS))
    short = (c for c in candidates if len(c.split()) <= _MOST_WORDS)
    return next(short, sentences[0] if sentences else "")
