"""What looks wrong about a caption: flags by rule, of one caption, its neighbours and the run."""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from kinema.captioning.records import Caption, VideoRecord
from kinema.captioning.text import jaccard, split_sentences, words
from kinema.errors import UsageError

Language = Callable[[str], str]
"""Text to the ISO 639-1 code of its language."""

SEVERITY: dict[str, int] = {
    "empty": 8,
    "refusal": 8,
    "wrong_language": 4,
    "repeated": 4,
    "truncated": 2,
    "time_out_of_bounds": 2,
    "boilerplate": 1,
    "near_duplicate": 1,
}
"""Every flag, and how much worse it makes a caption."""
UNUSABLE = frozenset({"empty", "refusal", "wrong_language", "truncated"})
"""Flags of captions that enter no title, summary, chapter, subtitle or metadata."""

_ORDER = ("empty", "truncated", "repeated", "refusal", "time_out_of_bounds", "wrong_language")
_NEAR_DUPLICATE = 0.9
_LOOP_WORDS = 4
_LOOP_TIMES = 3
_COMMON_SHARE = 0.2
_COMMON_VIDEOS = 5
_TIME_SLACK_SECONDS = 1.0
_LANGUAGE_WORDS = 6

_REFUSAL = re.compile(
    r"\b(i['’]?m|i am) (sorry|unable|not able)\b|\bi (can ?not|can['’]t) (help|assist|describe|see|"
    r"view|watch|process|answer|tell)\b|\bas an ai\b|\bi do not see (any|a) (video|image)|"
    r"\bi see no (video|picture)|\bno (video|image) (was|is|has been) (provided|given|attached)",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(?<![\d:])(?:(\d{1,2}):)?(\d{1,2}):([0-5]\d(?:\.\d+)?)(?![\d:])")
_SECONDS = re.compile(r"(?<![\d.:])(\d+(?:\.\d+)?) ?(?:s|sec|seconds?)\b")


def own_flags(
    caption: Caption, *, wanted: str | None = None, language: Language | None = None
) -> list[str]:
    """Flags that one caption earns by itself.

    Args:
        wanted: ISO 639-1 code of the language that was asked for.
        language: tells a text's language; None where it cannot be told.
    """
    if caption.error is not None:
        return []
    rules = _unusable(caption.text, caption.finish_reason, wanted, language) | {
        "repeated": is_loop(caption.text),
        # Lengths such as "for 3 seconds" pass.
        "time_out_of_bounds": any(
            seconds > caption.end_seconds + _TIME_SLACK_SECONDS
            for seconds in mentioned_seconds(caption.text)
        ),
    }
    return [flag for flag in _ORDER if rules[flag]]


def unusable(
    text: str,
    finish_reason: str,
    *,
    wanted: str | None = None,
    language: Language | None = None,
) -> frozenset[str]:
    """Why a text of the model cannot be shown as if it said something of the video.

    Args:
        text: a caption, a summary or a title.
        finish_reason: of its completion.
        wanted: as for :func:`own_flags`, and so is ``language``.
    """
    rules = _unusable(text, finish_reason, wanted, language)
    return frozenset(flag for flag, holds in rules.items() if holds)


def is_usable(caption: Caption) -> bool:
    """Whether a caption may stand where no flag is beside it: in subtitles and metadata."""
    flags = unusable(caption.text, caption.finish_reason) | UNUSABLE.intersection(caption.flags)
    return caption.error is None and not flags


def _unusable(
    text: str, finish_reason: str, wanted: str | None, language: Language | None
) -> dict[str, bool]:
    """Each flag of :data:`UNUSABLE`, and whether it holds."""
    return {
        "empty": not words(text),
        "truncated": finish_reason == "length",
        "refusal": finish_reason == "refusal" or bool(_REFUSAL.search(text)),
        "wrong_language": wanted is not None
        and language is not None
        and len(words(text)) >= _LANGUAGE_WORDS
        and language(text) != wanted,
    }


def language_check(name: str | None) -> tuple[str | None, Language | None]:
    """The code of a language and what tells a text's; both None where that cannot be checked.

    Args:
        name: as the user wrote it: an English name or an ISO 639-1 code.
    """
    if name is None or importlib.util.find_spec("py3langid") is None:
        return None, None
    import py3langid  # noqa: PLC0415  an extra
    from transformers.models.whisper.tokenization_whisper import (  # noqa: PLC0415  a second
        TO_LANGUAGE_CODE,
    )

    code = TO_LANGUAGE_CODE.get(name.lower(), name.lower())
    if code not in {told for told, _ in py3langid.rank("")}:
        return None, None
    return code, lambda text: str(py3langid.classify(text)[0])


def is_loop(text: str) -> bool:
    """True where a sentence comes twice, or four words in a row come more than three times."""
    said = [words(sentence) for sentence in split_sentences(text)]
    if any(count > 1 and len(one) > 2 for one, count in Counter(said).items()):
        return True
    spoken = words(text)
    runs = Counter(zip(*(spoken[i:] for i in range(_LOOP_WORDS)), strict=False))
    return max(runs.values(), default=0) > _LOOP_TIMES


def mentioned_seconds(text: str) -> list[float]:
    """Times that a text names, as ``1:20``, ``0:01:20.5``, ``12.5 s`` or ``3 seconds``."""
    clocks = (
        int(h or 0) * 3600 + int(m) * 60 + float(s) for h, m, s in _CLOCK.findall(text) if m or h
    )
    return [*clocks, *(float(s) for s in _SECONDS.findall(text))]


def flagged(
    record: VideoRecord,
    *,
    common: frozenset[str] = frozenset(),
    wanted: str | None = None,
    language: Language | None = None,
) -> VideoRecord:
    """The record with the flags of all its captions.

    Args:
        common: sentences that stand in many videos of the run; see :func:`common_sentences`.
    """
    marked = []
    before = ""
    for caption in record.captions:
        flags = own_flags(caption, wanted=wanted, language=language)
        if caption.text and jaccard(before, caption.text) >= _NEAR_DUPLICATE:
            flags.append("near_duplicate")
        if any(sentence in common for sentence in split_sentences(caption.text)):
            flags.append("boilerplate")
        marked.append(replace(caption, flags=tuple(flags)))
        before = caption.text
    return replace(record, captions=tuple(marked))


def common_sentences(records: Iterable[VideoRecord]) -> frozenset[str]:
    """Sentences that stand in a fifth of the videos, and in five at least."""
    videos = 0
    seen: Counter[str] = Counter()
    for record in records:
        videos += 1
        seen.update({s for c in record.captions for s in split_sentences(c.text)})
    least = max(_COMMON_VIDEOS, math.ceil(_COMMON_SHARE * videos))
    return frozenset(sentence for sentence, count in seen.items() if count >= least)


def badness(caption: Caption) -> int:
    """Sum of what its flags weigh; 0 for a caption without any."""
    return sum(SEVERITY[flag] for flag in caption.flags)


def parse_worst(text: str) -> float:
    """The share in ``worst:5%``, 0 to 1.

    Raises:
        UsageError: it is written in another way.
    """
    match = re.fullmatch(r"worst:(\d+(?:\.\d+)?)%", text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise UsageError(f"--recaption {text} means nothing.", hint="Try --recaption worst:5%.")
    return float(match[1]) / 100


def worst(records: Iterable[VideoRecord], share: float) -> dict[str, frozenset[int]]:
    """Flagged captions to ask for again, by source: the worst, at most that share of all."""
    total = 0
    bad: list[tuple[int, str, int]] = []
    for record in records:
        total += len(record.captions)
        bad += [(-badness(c), record.source, c.index) for c in record.captions if c.flags]
    chosen: dict[str, set[int]] = {}
    for _, source, index in sorted(bad)[: math.ceil(share * total)]:
        chosen.setdefault(source, set()).add(index)
    return {source: frozenset(indices) for source, indices in chosen.items()}
