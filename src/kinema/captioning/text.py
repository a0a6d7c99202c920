"""Words and sentences of captions, compared: what summaries stand on and what repeats."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

# Scripts without spaces between words count by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’][^\W_]+)*")
_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+(?=\S)|(?<=[。！？])\s*(?=\S)|\n+")
_CITED = re.compile(r"\s*\[(\d+(?:\s*[,;–-]\s*\d+)*)\]")
_CITED_BEHIND = re.compile(r"([.!?。！？])((?:\s*\[\d+(?:\s*[,;–-]\s*\d+)*\])+)")


@lru_cache(4096)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words; of scripts without spaces, the characters."""
    return tuple(_WORD.findall(text.lower()))


def split_sentences(text: str) -> list[str]:
    """Sentences in order, without the white space between them."""
    return [part.strip() for part in _END.split(text) if part and part.strip()]


def cited_sentences(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Sentences without their marks like ``[1, 3-5]``, each with the numbers in them."""
    inside = _CITED_BEHIND.sub(r"\2\1", text)
    pairs = ((_CITED.sub("", s).strip(), _numbers(s)) for s in split_sentences(inside))
    return [(sentence, numbers) for sentence, numbers in pairs if words(sentence)]


def _numbers(sentence: str) -> tuple[int, ...]:
    found: list[int] = []
    for group in _CITED.findall(sentence):
        for piece in re.split(r"[,;]", group):
            ends = [int(n) for n in re.findall(r"\d+", piece)]
            found += range(ends[0], min(ends[-1], ends[0] + 999) + 1)
    return tuple(dict.fromkeys(found))


def jaccard(a: str, b: str) -> float:
    """Shared words over all words, 0 to 1."""
    one, two = set(words(a)), set(words(b))
    return len(one & two) / len(one | two) if one | two else 0.0


class Overlap:
    """How much texts say of the same, rare words counting more than common ones."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self.texts = texts
        sets = [set(words(text)) for text in texts.values()]
        seen = Counter(word for one in sets for word in one)
        self._weights = {w: math.log1p(len(sets) / count) for w, count in seen.items()}
        self._unseen = math.log1p(len(sets) + 1)

    def share(self, text: str, of: Sequence[str]) -> float:
        """Share of the telling words of ``text`` that ``of`` hold, 0 to 1."""
        own = set(words(text))
        there = {word for other in of for word in words(other)}
        total = sum(map(self._weight, own))
        return sum(map(self._weight, own & there)) / total if total else 0.0

    def _weight(self, word: str) -> float:
        return self._weights.get(word, self._unseen)


def clock(seconds: float, *, mark: str = ".") -> str:
    """``HH:MM:SS.mmm``; subtitles have a comma for ``mark``."""
    total = round(seconds * 1000)
    return (
        f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d}"
        f"{mark}{total % 1000:03d}"
    )


def short_clock(seconds: float) -> str:
    """``M:SS``, with hours where there are any."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
