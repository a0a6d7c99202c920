"""Text made comparable: case, punctuation, articles, number words."""

from __future__ import annotations

import re
import unicodedata

_ARTICLES = {"a", "an", "the"}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a text; punctuation and symbols fall away."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).replace("’", "'").lower())


def plain_words(text: str) -> list[str]:
    """:func:`words` without articles and with small number words as digits."""
    kept = [_DIGITS.get(word, word) for word in words(text) if word not in _ARTICLES]
    # "A" alone is no article: there is nothing behind it.
    return kept or [_DIGITS.get(word, word) for word in words(text)]


def normalised(text: str) -> str:
    """One string that is equal for answers that differ in nothing but form."""
    return " ".join(plain_words(text))
