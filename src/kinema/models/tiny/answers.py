"""From a question and what was seen to the sentences that are true.

What a question asks is read from its words. Every answer is a :data:`Grammar`, so each thing
and time in it was put there by a :class:`Sighting`, and a question that class probabilities of
single frames can not answer gets told so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kinema.models.tiny.constraint import Grammar
from kinema.models.tiny.labels import KINDS, Concept, find_mentions
from kinema.models.tiny.sightings import Clip, Sighting, find_sightings

_CANNOT = re.compile(
    r"\b(how (many|much|old|big|fast|far|tall)|count|colou?rs?|who|whose|why|where|doing|say|says|"
    r"said|hear|sounds?|feel\w*|think\w*|read|written|texts?|directions?|left|right)\b"
)
_ORDER = re.compile(r"\b(first|last|before|after|order|earlier|later|begins?|ends?|starts?|next)\b")
_LATE = re.compile(r"\b(last|ends?|later)\b")
_WHEN = re.compile(r"\b(when|how long|(at )?(what|which) (times?|seconds?))\b")
_EXISTS = re.compile(
    r"^(and |so |but )?(is|are|was|were) (there|this|that|it|these|those)\b|"
    r"^(and |so )?(do|does|did|can|could) (you|it|we|(the|this) (video|picture|clip))\b|"
    r"\bany\b|^(and|(what|how) about)\b"
)
_OPEN = re.compile(
    r"\b(what\w*|which|see|describe|description|happen\w*|shows?|shown|summar\w*|captions?|tell|"
    r"list|name|explain|contents?|objects?|things?|something|anything|about)\b"
)
_FILLERS = (
    "a about also all an and any anything appear are at brief briefly but can caption clip come"
    " comes contain contains content contents could describe description detail did do does done"
    " every everything explain find for frame frames from give going happen happened happening"
    " happens have here how i in is it its know list look me name next object objects of on one or"
    " our picture please recognise recognize scene see seen sentence short show shown shows so some"
    " something somewhere spot summarise summarize summary tell that the then there these thing"
    " things this those time times to us video visible was watch we were what what's when which"
    " with you your"
)
_UNABLE: Grammar = (
    ("I can not tell.", "That I can not tell."),
    (
        " I only name things that I recognise in single frames, and say when I see them.",
        " All I can do is name things that I recognise in single frames, and when I see them.",
    ),
)
_NO_MEDIA: Grammar = (
    ("I see no video or picture.", "There is no video or picture here."),
    (" Give me one and ask what is in it.", " Show me one and ask what it shows."),
)


@dataclass(frozen=True)
class Question:
    """What a user's turn asks, read from its words."""

    text: str
    mentions: tuple[Concept, ...]
    more: bool
    """It says something that neither labels nor question words cover (``red``, ``running``)."""

    @classmethod
    def read(cls, turns: Sequence[str]) -> Question:
        """Read the last turn; one that names nothing may mean what was named before it."""
        text = turns[-1].strip().lower() if turns else ""
        mentions, rest = find_mentions(text)
        more = not set(rest) <= set(_FILLERS.split())
        if not mentions and not more and re.search(r"(?<!in )\b(it|them)\b|^(and )?when\b", text):
            earlier = (found for turn in reversed(turns[:-1]) if (found := find_mentions(turn)[0]))
            mentions = next(earlier, [])[:1]
        return cls(text, tuple(mentions), more)


def answer(turns: Sequence[str], clips: Sequence[Clip]) -> Grammar:
    """The true answers to the last turn of a conversation about some clips.

    Args:
        turns: what user and model said so far, the question last.
        clips: every video and picture of the conversation, in order.
    """
    if not clips:
        return _NO_MEDIA
    question = Question.read(turns)
    parts = [_about_clip(question, clip) for clip in clips]
    if len(parts) == 1 or all(part is _UNABLE for part in parts):
        return parts[0]
    named: list[tuple[str, ...]] = []
    for i, (clip, part) in enumerate(zip(clips, parts, strict=True)):
        number = sum(c.kind == clip.kind for c in clips[: i + 1])
        name = f"{' ' if i else ''}{clip.kind.capitalize()} {number}:"
        named += ((name,), *_indented(part))
    return tuple(named)


def _indented(grammar: Grammar) -> Grammar:
    first, *rest = grammar
    return (tuple(f" {words}" for words in first), *rest)


def _about_clip(question: Question, clip: Clip) -> Grammar:
    text, mentions = question.text, question.mentions
    if _CANNOT.search(text):
        return _UNABLE
    if _ORDER.search(text):
        return _order(question, clip)
    if mentions and _WHEN.search(text):
        return _each(mentions, lambda m: _presence(m, clip, question.more, "I see"))
    if mentions and _EXISTS.search(text):
        return _each(mentions, lambda m: _presence(m, clip, question.more, "Yes, I see"))
    if not _OPEN.search(text):
        return _UNABLE
    described = _describe(clip)
    only = (("All that I can tell:", "I can only tell this:"), *_indented(described))
    return only if question.more else described


def _each(mentions: Sequence[Concept], speak: Callable[[Concept], Grammar]) -> Grammar:
    first, *rest = (speak(mention) for mention in mentions)
    return (*first, *(choice for grammar in rest for choice in _indented(grammar)))


def _describe(clip: Clip) -> Grammar:
    sightings = find_sightings(clip)
    sure = [s for s in sightings if s.sure]
    maybe = [s for s in sightings if not s.sure][:2]
    if not sightings:
        return _nothing(clip)
    lead = (f"The {clip.kind} shows", f"This {clip.kind} shows", "I see")
    return (*_chain(lead, sure, clip), *_list_maybe(maybe, clip, also=bool(sure)))


def _chain(lead: tuple[str, ...], sightings: Sequence[Sighting], clip: Clip) -> Grammar:
    """A sentence that names the sightings in order; empty for none."""
    if not sightings:
        return ()
    links = [lead]
    for before, after in pairwise(sightings):
        later = before.frames[-1] < after.frames[0]
        links.append((", then", ", followed by") if later else (" and", ", and"))
    things = [(_seen(sighting, clip),) for sighting in sightings]
    return (*(choice for pair in zip(links, things, strict=True) for choice in pair), (".",))


def _list_maybe(maybe: Sequence[Sighting], clip: Clip, *, also: bool) -> Grammar:
    if not maybe:
        return ()
    things = " or".join(_seen(s, clip) for s in maybe)
    leads = ("There may also be", "It may also show") if also else ("There may be", "I may see")
    return (tuple(f"{' ' if also else ''}{lead}" for lead in leads), (f"{things}.",))


def _nothing(clip: Clip) -> Grammar:
    where = "picture" if clip.kind == "picture" else "frames that I looked at"
    return (
        (
            f"I can not tell: nothing in the {where} looks like a thing that I know.",
            f"There is nothing in the {where} that I can name.",
        ),
    )


def _seen(sighting: Sighting, clip: Clip) -> str:
    return f" {sighting.concept.with_article}{clip.times(sighting.frames)}"


def _presence(concept: Concept, clip: Clip, more: bool, lead: str) -> Grammar:
    sighting = clip.look_for(concept)
    if sighting is None:
        return _absence(concept, clip)
    seen = _seen(sighting, clip)
    if not sighting.sure:
        return ((f"Maybe: I may see{seen}.", f"I am not sure: there may be{seen}."),)
    if more:
        return ((f"I see{seen}, and can not tell more about it.",),)
    return ((f"{lead}{seen}.", f"{lead.replace('I see', 'there is').capitalize()}{seen}."),)


def _absence(concept: Concept, clip: Clip) -> Grammar:
    kinds = (k for k in KINDS if concept.is_a(k) and concept.classes != k.classes)
    seen = [s for kind in kinds if (s := clip.look_for(kind)) and s.sure]
    thing = concept.with_article
    if seen:
        narrowest = min(seen, key=lambda s: len(s.concept.classes))
        return ((f"I see{_seen(narrowest, clip)}, and can not tell whether it is {thing}.",),)
    return ((f"No, I do not see {thing}.", f"No, none of the frames that I saw shows {thing}."),)


def _order(question: Question, clip: Clip) -> Grammar:
    sure = [s for s in find_sightings(clip) if s.sure]
    found = [s for m in question.mentions if (s := clip.look_for(m)) and s.sure]
    if len(found) < len(question.mentions):
        return _each(question.mentions, lambda m: _presence(m, clip, False, "I see"))
    if len(found) > 1:
        ordered = sorted(found, key=lambda s: s.frames)
        return _chain(("First I see", "First there is"), ordered, clip)
    if found:
        return _neighbour(question.text, found[0], sure, clip)
    if not sure:
        return _nothing(clip)
    late = _LATE.search(question.text) is not None
    pick = max(sure, key=lambda s: s.frames[-1]) if late else min(sure, key=lambda s: s.frames[0])
    which = "last" if late else "first"
    lead = (f"The {which} thing that I can name is", f"What I see {which} is")
    return (lead, (f"{_seen(pick, clip)}.",))


def _neighbour(text: str, anchor: Sighting, sure: Sequence[Sighting], clip: Clip) -> Grammar:
    if re.search(r"\b(before|earlier)\b", text):
        lead = f"Before{_seen(anchor, clip)}"
        others = [s for s in sure if s.frames[-1] < anchor.frames[0]][-1:]
    else:
        lead = f"After{_seen(anchor, clip)}"
        others = [s for s in sure if s.frames[0] > anchor.frames[-1]][:1]
    if not others:
        return ((f"{lead} I see nothing that I can name.",),)
    return ((f"{lead} I see", f"{lead} there is"), (f"{_seen(others[0], clip)}.",))
