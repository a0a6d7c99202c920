"""What a user's turn asks of the spotter, read from its words, in English."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kinema.models.spotter.labels import Concept, find_mentions, words

_HELLO = re.compile(
    r"^(hello|hi|hey|good (morning|afternoon|evening|day)|thanks?( you)?|thank you|bye|help|please)"
    r"( there| kinema| spotter)?\b[\s,.!:?]*"
)
SELF = re.compile(
    r"^$|^how are you\b|\b(who|what|which model) are you\b|\bwhat can you (do|answer|tell)\b"
    r"|\bhow do you work\b"
    r"|\bare you (an? )?(ai|human|bot|robot|real|language model|llm|chatgpt|model)\b"
)
CLIP = r"(video|clip|film|movie|recording|footage|picture|image|photo)"
DURATION = re.compile(
    rf"\bhow long (is|was|does|did) (it|this|that|((the|this|that|my) (whole |entire )?{CLIP}))"
    rf"( (last|run|take|go on)| long)?\s*(\?|$|in\b)"
    rf"|\b(duration|length|running time|runtime)\b|\bhow many (seconds|minutes)\b.*\b{CLIP}\b"
    rf"|\b(longer|shorter) than\b"
    rf"|\b(when|what time) do(es)? (it|(the|this) {CLIP}) (end|stop|finish)"
)
COUNT_FRAMES = re.compile(r"\bhow many (frames|pictures|images)\b|\bframe ?rate\b|\bfps\b")
SIZE = re.compile(
    rf"\bresolution\b|\b(how (big|large|wide|high)|what size) (is|are) (the|this) ({CLIP}|frames?)"
)
MOMENT = re.compile(
    r"\b(at|around|near|about|after|by) (the )?((?P<m>\d+):(?P<ms>\d\d)|(?P<s>\d+(\.\d+)?))"
    r"\s*(s|sec|secs|seconds?)?\b|\b(at|in|around) (the )?(second|sec) (?P<n>\d+(\.\d+)?)"
    r"|\b(?P<ss>\d+(\.\d+)?) ?(s|sec|seconds?)\b( in\b| mark)?"
)
PLACE = re.compile(
    r"\b(at|in|near|towards) the (very )?(?P<where>beginning|start|end|middle|halfway)\b"
    r"|\bin (?P<half>half)way\b|\b(?P<edge>first|last|final|opening|closing) (frame|shot|second)\b"
    r"|\bhow (does|did) (it|this|that|(the|this|that) \w+) (?P<how>begin|start|end)\b"
)
FIRST = re.compile(r"\b(first|earliest|begins?|starts?|opens?)\b")
LAST = re.compile(r"\b(last|latest|final|finally|ends?|lastly)\b")
ORDER = re.compile(r"\b(between|before|after|order|sequence|earlier|later|next|then)\b")
WHEN = re.compile(r"\b(when|how long|(at )?(what|which) (times?|seconds?|moment|point)|times?)\b")
WHICH = re.compile(
    r"\b(which|what|any)( other)?( (kinds?|types?|sorts?|breeds?|species) of)?( an?| the)? "
    r"(?P<name>.+)"
)
EXISTS = re.compile(
    r"^((and|so|but|or|ok|please) )*(is|are|was|were|do|does|did|can|could)(n't| not)? "
    r"|\bany\b|^(and|(what|how) about)\b|\b(see|spot|recogni[sz]e|find|show|contains?|visible)\b"
)
MORE = re.compile(
    r"\b(how (many|much|old|big|fast|far|tall)|count|colou?rs?|who|whose|whom|why|where|doing|"
    r"says?|said|hear|sounds?|feel\w*|think\w*|read|written|texts?|directions?|left|right|real|happy|sad)\b"
)
OPEN = re.compile(
    r"\b(what\w*|which|see|describe|description|happen\w*|shows?|shown|summar\w*|captions?|tell|"
    r"list|name|explain|contents?|objects?|things?|something|anything|about)\b"
)
RANGE = re.compile(
    r"\b(between|from) (?P<a>\d+(\.\d+)?) ?s?(econds?)? (and|to) (?P<b>\d+(\.\d+)?)\b"
    r"|\b(?P<side>first|last) (?P<n>\d+(\.\d+)?) ?(s|sec|seconds?)\b"
)
OPTION = re.compile(r"^[ \t]*\(?([A-Z])[.):][ \t]+(\S.*)$", re.MULTILINE)
"""A line that offers an answer, by its letter."""
THING = re.compile(r"\b(a|an|any|some|the) (?P<name>[^\W\d]+)[^\w]*($| in\b| on\b)")
DOES = {
    "clothing": r"\bwhat .*\b(wear|wears|wearing|worn|dressed)\b",
    "food": r"\bwhat .*\b(eat|eats|eating|eaten)\b",
    "beverage": r"\bwhat .*\b(drinks|drinking)\b",
    "vehicle": r"\bwhat .*\b(drives?|driving|rides?|riding)\b",
    "musical instrument": r"\bwhat .*\b(plays|playing)\b",
}
"""What is asked for without naming its kind."""
SHOWN = re.compile(rf"\b{CLIP}s?\b|\b(see|seen|shown?|shows|happen\w*|scene|describe|summar\w*)\b")
_FOREIGN = words(
    "el la los las que qué hay una un en del le les des est une dans sur avec il y der das ist"
    " und ein eine einen im auf wer wie il lo gli che una nel è di och är en ett det på"
    " het een van wat zie de um uma são é nicht mit gibt zeigt dieses diesem diesen"
    " passiert sieht sehen ich welche welches wo quoi qui quelle quel ce cette quali"
    " questo cosa vedo esto esta este qué quién où cómo como isto jest czy"
)
_FILLERS = words(
    "a about actually all also an and any anything anywhere appear appears are at be been being"
    " brief briefly but can caption clip come comes contain contains content contents could"
    " describe description detail detect did do does done ever every everything exactly explain"
    " film find for footage frame frames from get give going happen happened happening happens"
    " have here hi hello how i if image images in into is isn't it its just kind kinds know let"
    " like list long look looks maybe me moment movie my name next no not now object objects of"
    " ok on one or other our out over photo picture pictures please point present recognise"
    " recognize recording say scene second seconds see seen sentence short should show shown"
    " shows so some something somewhere sort spot still sure summarise summarize summary tell"
    " than that that's the their them then there there's these they thing things this those"
    " time times to type types us very video visible was wasn't watch we were what what's when"
    " which will with would yes you your aren't don't doesn't recognised recognized first last"
    " before after order end beginning start during while has had may might else middle s sec"
    " between i'm who's where's how's"
)


@dataclass(frozen=True)
class Question:
    """What a user's turn asks, read from its words."""

    text: str
    mentions: tuple[Concept, ...]
    unknown: tuple[str, ...]
    """Words that neither labels nor question words cover (``red``, ``running``)."""
    is_foreign: bool
    """It is in another language than English, as far as its small words and letters tell."""

    @classmethod
    def read(cls, said: Sequence[str], answers: Sequence[str] = ()) -> Question:
        """Read the last turn; one that names nothing may mean what was named before it.

        Args:
            said: the user's turns in order.
            answers: what was answered to all but the last.
        """
        text = " ".join(said[-1].lower().replace("’", "'").split()) if said else ""
        text = _HELLO.sub("", text)
        mentions, rest = find_mentions(text)
        unknown = [w for w in rest if w not in _FILLERS and not w.replace(".", "").isdigit()]
        foreign = any(w in _FOREIGN or max(map(ord, w)) > _LAST_LATIN for w in rest)
        if not mentions and not unknown and _POINTS_BACK.search(text):
            earlier = [*reversed(said[:-1]), *reversed(answers)]
            mentions = next((found for turn in earlier if (found := find_mentions(turn)[0])), [])
        return cls(text, tuple(mentions), tuple(unknown), foreign)

    @property
    def asks_more(self) -> bool:
        """Whether single frames can tell only a part of what is asked."""
        return bool(self.unknown) or MORE.search(self.text) is not None


_LAST_LATIN = 0x24F
_POINTS_BACK = re.compile(
    r"(?<!in )(?<!about )\b(it|them|they|that one)\b|^(and )?when\b|^(at )?what time"
)
