"""Counts and ranges of time in replies: read by rule, never guessed.

A reply that gives two different counts or ranges, and does not say which one is its answer, is
unparsed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kinema.errors import UsageError
from kinema.types import parse_seconds

# -- ranges of time ------------------------------------------------------------------------------

_TIME = (
    r"(?:\d+\s*(?:h|hours?)\s*)?\d+\s*(?:m|mins?|minutes?)\s*(?:and\s+)?\d+(?:\.\d+)?\s*(?=s)"
    r"|\d+:\d{1,2}(?::\d{1,2})?(?:[.,]\d+)?"
    r"|\d+(?:\.\d+)?"
)
_UNIT = r"(?:\s*(?:seconds?|segundos?|secondes?|sekunden|secs?|s\b|秒|초)(?:\s+mark)?)?"
_OPEN, _CLOSE = r"[\s<\[(\"'`*]*", r"[\s>\])\"'`*]*"
_MOMENT = r"(?:the\s+)?(?:(?:second|time|t|第)\s*=?\s*)?"
_JOIN = (
    r"(?:-{1,2}>?|–|—|~|〜|→|=>|,|&|\bto\b|\buntil\b|\btill\b|\bthrough\b|\band\b|\bbis\b|à|\ba\b|"
    r"\bhasta\b|到|至|から|부터)"
)


def _named(name: str) -> str:
    return rf"(?P<{name}>{_TIME})"


_RANGE = re.compile(
    rf"(?<![A-Za-z0-9_.:-]){_named('start')}{_UNIT}{_CLOSE}(?:{_JOIN}|>\s*(?=<)|(?<=>)(?=<)){_OPEN}{_MOMENT}"
    rf"{_named('end')}(?![\w:]*\d){_UNIT}(?P<behind>\s+[a-z]+)?",
    re.IGNORECASE,
)
_STARTS = r"\b(?:start\w*|begin\w*|began|onset|from|at)\b"
_ENDS = r"\b(?:end\w*|finish\w*|stop\w*)\b"
_KEYED = [
    re.compile(
        rf"{first}[^\d]{{0,40}}?{_named(one)}{_UNIT}(?![\d.:]*\d)[^\d]{{0,80}}?{second}[^\d]{{0,40}}?"
        rf"{_named(other)}",
        re.IGNORECASE,
    )
    for first, one, second, other in (
        (_STARTS, "start", _ENDS, "end"),
        (_ENDS, "end", _STARTS, "start"),
    )
]
_KEY_NAME = re.compile(r"(?<=[a-z])_(?:time(?:stamp)?|sec(?:ond)?s?)\b", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"(?<![\d.:,])(\d+),(\d{1,2})(?![\d,])")
_COUNTED = re.compile(r"(?:frames?|men|women|people|persons|times|years?|dogs|cats|cars)\b")
_FRAMES_BEFORE = re.compile(r"\bframes?\s*\Z", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d\d")


def read_span(reply: str) -> tuple[float, float] | None:
    """The only range of times of a reply, in seconds.

    Read are ``3.2 - 8.9``, ``<3.2 seconds> to <8.9 seconds>`` (Qwen3-VL), ``{"start": "00:03.2",
    "end": "00:08.9"}``, "starts at 3.2 s and ends at 8.9 s", ``00:00:03,200 --> 00:00:08,900`` and
    their kin.
    """
    text = _KEY_NAME.sub("", unicodedata.normalize("NFKC", reply))
    if len(_DECIMAL_COMMA.findall(text)) > 1 and not re.search(r"\d\.\d", text):
        text = _DECIMAL_COMMA.sub(r"\1.\2", text)  # German, French and others
    found = {_seconds(match) for rule in _KEYED for match in rule.finditer(text)}
    if not found:
        found = set(_ranges(text))
    return found.pop() if len(found) == 1 else None


def _ranges(text: str) -> Iterator[tuple[float, float] | None]:
    """What stands between two times; None for a range of something else."""
    for match in _RANGE.finditer(text):
        behind = (match["behind"] or "").strip().lower()
        is_other = _COUNTED.fullmatch(behind) or _FRAMES_BEFORE.search(text[: match.start()])
        is_years = _YEAR.fullmatch(match["start"]) and _YEAR.fullmatch(match["end"])
        yield None if is_other or is_years else _seconds(match)


def _seconds(match: re.Match[str]) -> tuple[float, float] | None:
    try:
        start, end = (_one(match[name]) for name in ("start", "end"))
    except UsageError:
        return None
    return (start, end) if start < end else None


def _one(time: str) -> float:
    in_words = re.findall(r"\d+(?:\.\d+)?", time) if re.search(r"[hm]", time) else []
    return parse_seconds(":".join(in_words) if in_words else time.replace(",", "."))


# -- counts --------------------------------------------------------------------------------------

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: number for number, word in enumerate(_UNITS.split())}
_VALUES |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000}
_TIMES = {"once": 1, "twice": 2, "thrice": 3, "none": 0, "never": 0, "nil": 0}
_CHINESE = {sign: number for number, sign in enumerate("零一二三四五六七八九十")} | {
    "两": 2,
    "兩": 2,
}
_NUMBER_WORD = "|".join((*_VALUES, *_SCALES))
_NUMBER = re.compile(
    r"(?P<minus>(?<![\w.])-\s?|\bminus\s+)?(?P<digits>\d{1,3}(?:[,  ]\d{3})+(?![\d])|\d+(?:\.\d+)?)"
    r"(?P<ordinal>(?:st|nd|rd|th)\b)?"
    rf"|\b(?:an?\s+(?=dozen|hundred|thousand))?(?P<words>(?:{_NUMBER_WORD})\b"
    rf"(?:(?:\s+and\s+|[\s-]+)(?:{_NUMBER_WORD})\b)*)"
    rf"|\b(?P<times>{'|'.join(_TIMES)})\b"
    r"|(?<![\u4e00-\u9fff])(?P<chinese>[零一二三四五六七八九十两兩])(?=次|个|個|人|只|\W|\Z)",
    re.IGNORECASE,
)
_NO_NUMBER = re.compile(
    r"\bno\s+one\b|\b(?:the|this|that|each|every|another|which)\s+one\b|\bone\s+(?:of|by\s+one)\b",
    re.IGNORECASE,
)
_OPEN_END = re.compile(
    r"\b(?:at\s+(?:least|most)|more\s+than|less\s+than|fewer\s+than|over|under|up\s+to)\s*\Z",
    re.IGNORECASE,
)
_STATED_BEFORE = re.compile(
    r"(?:\banswer(?:\s+is)?\s*:?|\b(?:in\s+)?total(?:\s+(?:is|of))?\s*[:,]?|\bcount(?:\s+is)?\s*:?|=|答案是?:?)"
    r"\s*\Z",
    re.IGNORECASE,
)
_STATED_AFTER = re.compile(r"\s+(?:\w+\s+){0,2}(?:in\s+total|altogether|overall)\b", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:\A\W*|\bthere\s+(?:is|are|was|were)\s+|\b(?:see|shows?|contains?)\s+)no\s+"
    r"(?!way|one|idea|doubt|clear|need)[a-z]+",
    re.IGNORECASE,
)


def read_count(reply: str) -> float | None:
    """The number that a reply gives: the one it states as its answer, or else the only one.

    Numbers come in digits (``1,000``), in words ("twenty-one", "twice", "a dozen", 三次) or as
    their absence ("none", "there are no dogs"). A negative or open number ("at least 3") is none.
    """
    text = _NO_NUMBER.sub(" ", unicodedata.normalize("NFKC", reply))
    stated, every = set[float | None](), set[float | None]()
    for match in _NUMBER.finditer(text):
        if match["ordinal"]:
            continue
        value: float | None = _value(match)
        if match["minus"] or _OPEN_END.search(text[: match.start()]):
            value = None
        every.add(value)
        before, after = text[: match.start()].rstrip(" \"'*`$\\({"), text[match.end() :]
        if _STATED_BEFORE.search(before) or _STATED_AFTER.match(after):
            stated.add(value)
    if not every and _NOTHING.search(text):
        return 0.0
    found = stated or every
    return found.pop() if len(found) == 1 else None


def _value(match: re.Match[str]) -> float:
    if match["digits"]:
        return float(re.sub(r"[,\s]", "", match["digits"]))
    if match["times"]:
        return float(_TIMES[match["times"].lower()])
    if match["chinese"]:
        return float(_CHINESE[match["chinese"]])
    total = current = 0
    for word in re.split(r"[\s-]+", match["words"].lower()):
        if word in _SCALES:
            current = max(current, 1) * _SCALES[word]
            if word == "thousand":
                total, current = total + current, 0
        elif word != "and":
            current += _VALUES[word]
    return float(total + current)
