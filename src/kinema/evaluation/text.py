"""Comparing short answers: exact, normalised, by words, by meaning.

Every function takes one answer and its accepted references, and returns 0 to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from kinema.evaluation.normalise import normalised, plain_words

Similarity = Callable[[str, str], float]
"""Similarity of two words, 0 to 1."""


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when the answer is a reference, character for character but for white space around it."""
    return float(answer.strip() in (reference.strip() for reference in references))


def normalised_match(answer: str, references: Sequence[str]) -> float:
    """1 when answer and a reference differ in nothing but case, punctuation, articles, digits."""
    return float(normalised(answer) in map(normalised, references))


def contains_match(answer: str, references: Sequence[str]) -> float:
    """1 when the words of a reference stand in the answer, next to each other and in order."""
    said = f" {normalised(answer)} "
    return float(any(f" {normalised(reference)} " in said for reference in references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, with the best reference (as in SQuAD)."""
    said = Counter(plain_words(answer))
    return max((_overlap(said, Counter(plain_words(r))) for r in references), default=0.0)


def _overlap(said: Counter[str], meant: Counter[str]) -> float:
    total = said.total() + meant.total()
    return 2 * (said & meant).total() / total if total else 1.0


def wups(
    answer: str, references: Sequence[str], *, threshold: float, similarity: Similarity
) -> float:
    """WUPS of two sets of words (Malinowski and Fritz, NIPS 2014), with the best reference.

    Similarities below the threshold count a tenth.
    """

    def scaled(one: str, other: str) -> float:
        value = 1.0 if one == other else similarity(one, other)
        return value if value >= threshold else 0.1 * value

    said = plain_words(answer)
    return max((_wups(said, plain_words(r), scaled) for r in references), default=0.0)


def _wups(said: list[str], meant: list[str], similarity: Similarity) -> float:
    if not said or not meant:
        return float(said == meant)
    forwards = backwards = 1.0
    for word in said:
        forwards *= max(similarity(word, other) for other in meant)
    for word in meant:
        backwards *= max(similarity(word, other) for other in said)
    return min(forwards, backwards)
