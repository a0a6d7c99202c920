"""From a question and what was seen to the sentences that are true.

What a question asks is read from its words, in English. The spotter never says that something is
not there: it says that it did not recognise it. What it cannot know it says in one sentence, with
the model to use instead; a question that names something that was recognised gets at least that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from kinema.models.spotter import questions as asks
from kinema.models.spotter.labels import KINDS, Concept, find_mentions, vocabulary
from kinema.models.spotter.questions import Question
from kinema.models.spotter.sightings import Clip, Sighting, find_sightings

BETTER_MODEL = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
_FOR_MORE = f"for other questions use a model that reads video, such as --model {BETTER_MODEL}"
ABOUT = (
    "I am the object spotter built into kinema and no language model: I name things of 1,000 kinds "
    f"that I recognise in single frames, and say when; {_FOR_MORE}."
)
UNABLE = (
    "I cannot answer that: I only name things of 1,000 kinds that I recognise in single frames, "
    f"and say when; {_FOR_MORE}."
)
NO_MEDIA = "I got no video or picture. Give me one and ask what is in it."


def answer(said: Sequence[str], clips: Sequence[Clip], answers: Sequence[str] = ()) -> str:
    """The true answer to the last turn of a conversation about some clips.

    Args:
        said: the user's turns in order, the question last.
        clips: every video and picture of the conversation, in order.
        answers: what was answered before.
    """
    question = Question.read(said, answers)
    if asks.SELF.search(question.text) and not question.mentions:
        return ABOUT
    if not clips:
        return NO_MEDIA
    if len(options := asks.OPTION.findall(said[-1])) > 1:
        return _choose(options, asks.OPTION.sub("", said[-1]), clips[-1])
    if question.is_foreign:
        return UNABLE
    parts = [_about_clip(question, clip) for clip in clips]
    if len(set(parts)) == 1 and (len(parts) == 1 or parts[0] == UNABLE):
        return parts[0]
    named = []
    for i, (clip, part) in enumerate(zip(clips, parts, strict=True)):
        number = sum(c.kind == clip.kind for c in clips[: i + 1])
        named.append(f"{clip.kind.capitalize()} {number}: {part}")
    return " ".join(named)


def _choose(options: Sequence[tuple[str, str]], text: str, clip: Clip) -> str:
    """The one option that names what was recognised, or, asked for it, the first or last that does.

    Args:
        options: letters and texts.
        text: the question without them.
        clip: what was seen.
    """
    seen = [
        (sighting.frames, f"{letter}. {words}")
        for letter, words in options
        for mention in find_mentions(words)[0]
        if (sighting := clip.look_for(mention)) and sighting.sure
    ]
    if len(seen) == 1 or (seen and asks.FIRST.search(text.lower())):
        return min(seen)[1]
    return max(seen)[1] if seen and asks.LAST.search(text.lower()) else UNABLE


def _about_clip(question: Question, clip: Clip) -> str:
    part, where = _moment(question.text, clip)
    if question.mentions:
        return _about_things(question, part or clip)
    if fact := _fact(question.text, clip):
        return fact
    if part is not None:
        return f"{where}: {_describe(part)}"
    for name, pattern in asks.DOES.items():
        if re.search(pattern, question.text):
            return _which(vocabulary()[name], clip)
    return _about_all(question, clip)


def _about_all(question: Question, clip: Clip) -> str:
    """The answer to a question that names nothing."""
    text = question.text
    asks_order = any(p.search(text) for p in (asks.FIRST, asks.LAST, asks.ORDER))
    if asks_order and not question.unknown:
        return _order(question, clip)
    if asks.WHEN.search(text) and not question.asks_more:
        return f"I looked at {_frames(clip)}. {_describe(clip)}"
    cannot = asks.MORE.search(text) is not None
    if not cannot and (name := _unknown_thing(question)):
        things = "the 1,000 kinds of things that I know"
        return f'I cannot tell: "{name}" is none of {things}; {_FOR_MORE}.'
    if cannot or not asks.OPEN.search(text) or (question.unknown and not asks.SHOWN.search(text)):
        return UNABLE
    lead = "I can only tell what I recognise. " if question.unknown else ""
    return f"{lead}{_describe(clip)}"


def _unknown_thing(question: Question) -> str:
    """The word for a thing that the question asks for and that no label means."""
    if not asks.EXISTS.search(question.text):
        return ""
    match = re.search(
        r"\b(a|an|any|some|the) (?P<name>[^\W\d]+)[^\w]*($| in\b| on\b)", question.text
    )
    return match["name"] if match and match["name"] in question.unknown else ""


def _fact(text: str, clip: Clip) -> str:
    """What the file says about itself; empty when something else is asked."""
    if asks.DURATION.search(text):
        if clip.kind == "picture":
            return "It is a single picture and has no duration."
        if clip.duration_seconds is None:
            return f"The video does not say how long it is; I looked at {_frames(clip)}."
        return f"The video is {clip.duration_seconds:.1f} s long."
    if asks.COUNT_FRAMES.search(text):
        rate = f", at {clip.source_fps:.4g} frames a second" if clip.source_fps else ""
        return f"I looked at {_frames(clip)}{rate}."
    if asks.SIZE.search(text):
        return f"The frames are {clip.size[0]} × {clip.size[1]} pixels."
    return ""


def _frames(clip: Clip) -> str:
    if clip.kind == "picture":
        return "one picture"
    total = f" of {clip.total_frames}" if clip.total_frames else ""
    noun = "frame" if (clip.total_frames or len(clip)) == 1 else "frames"
    return f"{len(clip)}{total} {noun}{clip.times(tuple(range(len(clip))))}"


def _moment(text: str, clip: Clip) -> tuple[Clip | None, str]:
    """The frames at a time that the question names, and how that time is called."""
    if clip.kind == "picture":
        return None, ""
    end = clip.duration_seconds or float(clip.seconds[-1])
    if match := asks.RANGE.search(text):
        low, high = float(match["a"] or 0), float(match["b"] or match["n"] or 0)
        if match["side"] == "last":
            low, high = end - high, end
        inside = np.flatnonzero((clip.seconds >= low) & (clip.seconds <= high)).tolist()
        if inside:
            return clip.at(inside), f"From {low:.1f} to {high:.1f} s"
        asked = (low + high) / 2
    elif match := asks.MOMENT.search(text):
        found = match.groupdict()
        asked = float(found["s"] or found["n"] or found["ss"] or 0)
        asked += 60 * float(found["m"] or 0) + float(found["ms"] or 0)
    elif match := asks.PLACE.search(text):
        found = match.groupdict()
        name = found["where"] or found["edge"] or found["how"] or "half"
        asked = 0.0 if name in ("beginning", "start", "begin", "first", "opening") else end
        asked = end / 2 if name in ("middle", "half", "halfway") else asked
    else:
        return None, ""
    if asked > end + 1:
        return clip.at([len(clip) - 1]), f"The video ends at {end:.1f} s, and near its end"
    nearest = np.argsort(np.abs(clip.seconds - asked), kind="stable")[:2]
    return clip.at(sorted(nearest.tolist())), f"Near {asked:.1f} s"


def _about_things(question: Question, clip: Clip) -> str:
    text, mentions = question.text, question.mentions
    if kind := _asked_kind(question):
        return _which(kind, clip)
    if clip.whole is None and any(p.search(text) for p in (asks.FIRST, asks.LAST, asks.ORDER)):
        return _order(question, clip)
    return _each(mentions, lambda m: _presence(m, clip, question))


def _each(mentions: Sequence[Concept], speak: Callable[[Concept], str]) -> str:
    return " ".join(speak(mention) for mention in mentions)


def _asked_kind(question: Question) -> Concept | None:
    """The kind of which the question wants to know the members (``which fruit``)."""
    if len(question.mentions) != 1 or len(question.mentions[0].classes) == 1:
        return None
    match = asks.WHICH.search(question.text)
    named, _ = find_mentions(match["name"].split(" ")[0]) if match else ([], [])
    longer, _ = find_mentions(" ".join(match["name"].split(" ")[:2])) if match else ([], [])
    kind = question.mentions[0]
    return kind if kind in (*named, *longer) else None


def _which(kind: Concept, clip: Clip) -> str:
    found = [s for s in find_sightings(clip, within=kind) if s.concept.classes != kind.classes]
    sure, maybe = [s for s in found if s.sure], [s for s in found if not s.sure][:2]
    if sure:
        return _chain(sure, clip)
    whole = clip.look_for(kind)
    if whole is None:
        return _absence(kind, clip)
    if whole.sure:
        tail = f" Perhaps {_or(maybe, clip)}." if maybe else ""
        return f"I recognised {whole.seen_in(clip)}, and cannot tell which.{tail}"
    return f"I am not sure: there may be {_or(maybe or [whole], clip)}."


def _describe(clip: Clip) -> str:
    sightings = find_sightings(clip)
    sure = [s for s in sightings if s.sure]
    maybe = [s for s in sightings if not s.sure][:2]
    if sure and maybe:
        return f"{_chain(sure, clip)} There may also be {_or(maybe, clip)}."
    if sure:
        return _chain(sure, clip)
    if maybe:
        return f"I recognised nothing for sure. There may be {_or(maybe, clip)}."
    return f"I recognised nothing in {_frames(clip)}; I know 1,000 kinds of things."


def _chain(sightings: Sequence[Sighting], clip: Clip, lead: str = "I recognised") -> str:
    """A sentence that names the sightings in order."""
    said = [f"{lead} {sightings[0].seen_in(clip)}"]
    for before, after in pairwise(sightings):
        link = ", then" if before.frames[-1] < after.frames[0] else " and"
        said.append(f"{link} {after.seen_in(clip)}")
    return "".join(said) + "."


def _or(sightings: Sequence[Sighting], clip: Clip) -> str:
    return " or ".join(s.seen_in(clip) for s in sightings)


def _presence(concept: Concept, clip: Clip, question: Question) -> str:
    sighting = clip.look_for(concept)
    if sighting is None:
        return _absence(concept, clip)
    seen = sighting.seen_in(clip)
    if not sighting.sure:
        return f"I am not sure: there may be {seen}."
    if question.asks_more:
        return f"I recognised {seen}, and cannot tell more about it."
    is_plain = asks.EXISTS.search(question.text) and not asks.WHEN.search(question.text)
    is_plain = is_plain and not re.search(r"n't\b|\b(no|not|without|never|only)\b", question.text)
    return f"{'Yes: ' if is_plain else ''}I recognised {seen}."


def _absence(concept: Concept, clip: Clip) -> str:
    thing = concept.with_article
    kinds = (k for k in KINDS if concept.is_a(k) and concept.classes != k.classes)
    seen = [s for kind in kinds if (s := clip.look_for(kind)) and s.sure]
    if clip.whole and (elsewhere := clip.whole.look_for(concept)) and elsewhere.sure:
        return f"I recognised {elsewhere.seen_in(clip.whole)} only."
    if not seen:
        where = "the picture" if clip.kind == "picture" else _frames(clip)
        return f"I did not recognise {thing} in {where}; I know 1,000 kinds of things."
    narrowest = min(seen, key=lambda s: len(s.concept.classes))
    inside = [s for s in find_sightings(clip, within=narrowest.concept) if s.sure]
    exact = [s for s in inside if len(s.concept.classes) < len(narrowest.concept.classes)]
    if exact:
        return f"{_chain(exact, clip)} I did not recognise {thing}."
    return f"I recognised {narrowest.seen_in(clip)}, and cannot tell whether it is {thing}."


def _order(question: Question, clip: Clip) -> str:
    sure = [s for s in find_sightings(clip) if s.sure]
    if question.mentions:
        return _order_of_things(question, sure, clip)
    if not sure:
        return _describe(clip)
    first, last = (p.search(question.text) is not None for p in (asks.FIRST, asks.LAST))
    if not first and not last:
        return _chain(sure, clip, "In order I recognised")
    ends = [("first", min(sure, key=lambda s: s.frames[0]))] if first else []
    ends += [("last", max(sure, key=lambda s: s.frames[-1]))] if last else []
    named = (f"the {which} thing that I recognised is {s.seen_in(clip)}" for which, s in ends)
    both = ", and ".join(named)
    return f"{both[0].upper()}{both[1:]}."


def _order_of_things(question: Question, sure: Sequence[Sighting], clip: Clip) -> str:
    found = [s for m in question.mentions if (s := clip.look_for(m)) and s.sure]
    found.sort(key=lambda s: s.frames)
    if len(found) < len(question.mentions):
        return _each(question.mentions, lambda m: _presence(m, clip, question))
    if len(found) == 1:
        if asks.ORDER.search(question.text):
            return _neighbour(question.text, found[0], sure, clip)
        return _presence(question.mentions[0], clip, question)
    if len(found) == 2 and "between" in question.text:
        low, high = found[0].frames[-1], found[1].frames[0]
        inside = [s for s in sure if low < s.frames[0] and s.frames[-1] < high]
        return _chain(inside, clip) if inside else "I recognised nothing between them."
    return _chain(found, clip, "First I recognised")


def _neighbour(text: str, anchor: Sighting, sure: Sequence[Sighting], clip: Clip) -> str:
    if re.search(r"\b(before|earlier)\b", text):
        lead = f"Before {anchor.seen_in(clip)}"
        others = [s for s in sure if s.frames[-1] < anchor.frames[0]][-1:]
    else:
        lead = f"After {anchor.seen_in(clip)}"
        others = [s for s in sure if s.frames[0] > anchor.frames[-1]][:1]
    if not others:
        return f"{lead} I recognised nothing else."
    return f"{lead} I recognised {others[0].seen_in(clip)}."
