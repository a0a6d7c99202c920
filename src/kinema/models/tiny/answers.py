"""From a question and what was seen to the sentences that are true.

What a question asks is read from its words. Every answer is a :data:`Grammar`, so each thing
and time in it was put there by a :class:`Sighting`, and a question that class probabilities of
single frames can not answer gets told so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kinema.models.tiny.constraint import Grammar
from kinema.models.tiny.labels import KINDS, Concept, find_mentions
from kinema.models.tiny.sightings import Clip, Sighting, find_sightings

_CANNOT = re.compile(
    r"\b(how many|how much|how (old|big|fast|far|tall)|count|colou?rs?|who|whose|why|where|doing|"
    r"say|says|said|hear|sounds?|feel\w*|think\w*|read|written|texts?|directions?|left|right)\b"
)
_ORDER = re.compile(r"\b(first|last|before|after|order|earlier|later|begins?|ends?|starts?)\b")
_WHEN = re.compile(r"\b(when|what time|which time|which seconds?|what seconds?|how long)\b")
_EXISTS = re.compile(
    r"^(and |so |but )?(is|are|was|were) (there|this|that|it|these|those)\b|"
    r"^(and |so )?(do|does|did|can|could) (you|it|we|the video|this video|the picture) .*"
    r"(see|show|contain|have|recogni[sz]e|appear|find|spot)|\bany\b|^(and|what about|how about)\b"
)
_OPEN = re.compile(
    r"\b(what|which|see|describe|happen\w*|show\w*|summar\w*|captions?|tell me|list|name|explain|"
    r"contents?|objects?|things?|about)\b"
)
_FILLERS = frozenset(
    "a about also an and any anything appear are at but can clip contain could did do does find "
    "first for frame frames have how in is it its last me of on one or our picture please recognise"
    " recognize see seen show shown so some somewhere spot tell that the then there these this "
    "those time to us video was we were what when which you".split()
)
_UNABLE: Grammar = (
    ("I can not tell.", "That I can not tell."),
    (
        " I only name things that I recognise in single frames, and say when I see them.",
        " All I can do is name things that I recognise in single frames, and when I see them.",
    ),
)
_NO_MEDIA: Grammar = (("I see no video or picture. ", "There is no video or picture here. "),) + (
    ("Give me one and ask what is in it.", "Show me one and ask what it shows."),
)


@dataclass(frozen=True)
class Question:
    """What a user's turn asks, read from its words."""

    text: str
    mentions: tuple[Concept, ...]
    more: bool
    """It says something that no label covers (``red``, ``running``)."""

    @classmethod
    def read(cls, turns: Sequence[str]) -> Question:
        """Read the last turn; one that names nothing means what was named before it."""
        text = turns[-1].strip().lower()
        mentions, rest = find_mentions(text)
        more = not set(rest) <= _FILLERS
        earlier = (m for turn in reversed(turns[:-1]) if (m := find_mentions(turn)[0]))
        if not mentions and re.search(r"\b(it|that|this|them|when)\b", text):
            mentions = next(earlier, [])[:1]
        return cls(text, tuple(mentions), more)


def answer(turns: Sequence[str], clips: Sequence[Clip]) -> Grammar:
    """The true answers to the last turn of a conversation about some clips.

    Args:
        turns: what user and model said so far, the question last.
        clips: every video and picture of the conversation, in order.
    """
    question = Question.read(turns)
    if not clips:
        return _NO_MEDIA
    if _CANNOT.search(question.text):
        return _UNABLE
    parts = [_about_clip(question, clip) for clip in clips]
    if all(part is _UNABLE for part in parts):
        return _UNABLE
    if len(clips) == 1:
        return parts[0]
    named = zip(_clip_names(clips), parts, strict=True)
    return tuple(choice for name, part in named for choice in ((name,), *part))


def _clip_names(clips: Sequence[Clip]) -> list[str]:
    names: list[str] = []
    for i, clip in enumerate(clips):
        number = sum(c.kind == clip.kind for c in clips[: i + 1])
        names.append(f"{' ' if i else ''}{clip.kind.capitalize()} {number}: ")
    return names


def _about_clip(question: Question, clip: Clip) -> Grammar:
    text, mentions = question.text, question.mentions
    if _ORDER.search(text):
        return _order(mentions, clip) if mentions else _first_or_last(text, clip)
    if _WHEN.search(text) or _EXISTS.search(text):
        if not mentions:
            return _UNABLE
        return tuple(c for m in mentions for c in (*_presence(m, clip, question.more), (" ",)))[:-1]
    return _describe(clip) if _OPEN.search(text) else _UNABLE


def _describe(clip: Clip) -> Grammar:
    sightings = find_sightings(clip)
    sure = [s for s in sightings if s.sure]
    maybe = [s for s in sightings if not s.sure][:3]
    if not sightings:
        return _nothing(clip)
    grammar: list[tuple[str, ...]] = []
    if sure:
        grammar += [(f"The {clip.kind} shows", f"This {clip.kind} shows", "I see")]
        for before, sighting in zip([None, *sure], sure, strict=False):
            grammar += [_link(before, sighting), (_seen(sighting, clip),)]
        grammar += [(".",)]
    if maybe:
        things = " or ".join(_seen(s, clip) for s in maybe)
        also = "also " if sure else ""
        lead = (f"There may {also}be", f"Perhaps there is {also}".rstrip(), f"It may {also}show")
        grammar += [tuple(f"{' ' if sure else ''}{words}" for words in lead), (f" {things}.",)]
    return tuple(grammar)


def _nothing(clip: Clip) -> Grammar:
    where = "picture" if clip.kind == "picture" else "frames that I looked at"
    return (
        (
            f"I can not tell: nothing in the {where} looks like a thing that I know.",
            f"There is nothing in the {where} that I can name.",
        ),
    )


def _link(before: Sighting | None, sighting: Sighting) -> tuple[str, ...]:
    if before is None:
        return (" ",)
    if before.frames[-1] < sighting.frames[0]:
        return (", then ", ", followed by ")
    return (" and ", " with ")


def _seen(sighting: Sighting, clip: Clip) -> str:
    return sighting.concept.with_article + clip.times(sighting.frames)


def _presence(concept: Concept, clip: Clip, more: bool) -> Grammar:
    sighting = clip.look_for(concept)
    if sighting is None:
        return _absence(concept, clip)
    seen = _seen(sighting, clip)
    if not sighting.sure:
        return ((f"Maybe: I may see {seen}.", f"I am not sure: it may be {seen}."),)
    if more:
        return ((f"I see {seen}, and can not tell more about it.",),)
    return ((f"Yes, there is {seen}.", f"Yes, I see {seen}."),)


def _absence(concept: Concept, clip: Clip) -> Grammar:
    wider = [k for k in KINDS if concept.is_a(k) and concept.classes != k.classes]
    seen = [s for kind in wider if (s := clip.look_for(kind)) and s.sure]
    if seen:
        what = _seen(seen[-1], clip)
        return ((f"I see {what}, and can not tell whether it is {concept.with_article}.",),)
    thing = concept.with_article
    return ((f"No, I do not see {thing}.", f"No, none of the frames that I saw shows {thing}."),)


def _first_or_last(text: str, clip: Clip) -> Grammar:
    sure = [s for s in find_sightings(clip) if s.sure]
    if not sure:
        return _nothing(clip)
    last = re.search(r"\b(last|ends?|later)\b", text) is not None
    pick = max(sure, key=lambda s: s.frames[-1]) if last else min(sure, key=lambda s: s.frames[0])
    which = "last" if last else "first"
    lead = (f"The {which} thing that I can name is ", f"What I see {which} is ")
    return (lead, (f"{_seen(pick, clip)}.",))


def _order(mentions: Sequence[Concept], clip: Clip) -> Grammar:
    found = [s for m in mentions if (s := clip.look_for(m)) and s.sure]
    if len(found) < 2 or len(found) < len(mentions):
        return tuple(c for m in mentions for c in (*_presence(m, clip, False), (" ",)))[:-1]
    first, *others = sorted(found, key=lambda s: s.frames[0])
    if first.frames[0] == others[0].frames[0]:
        both = " and ".join(_seen(s, clip) for s in (first, others[0]))
        return ((f"I see both first in the same frame: {both}.",),)
    lead = (f"First {_seen(first, clip)}", f"First there is {_seen(first, clip)}")
    rest = tuple(c for s in others for c in ((", then ", ", followed by "), (_seen(s, clip),)))
    return (lead, *rest, (".",))
