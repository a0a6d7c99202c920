"""Text made comparable: the answer of a reply, case, punctuation, articles, number words."""

from __future__ import annotations

import re
import unicodedata

from kinema.reasoning import separate

_ARTICLES = {"a", "an", "the"}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?")


_TAGGED = re.compile(r"<(answer|conclusion)>\s*(.*?)\s*(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""R1-style models, and LLaVA-CoT."""
_CONTROL = re.compile(
    r"</?s>|<\|[\w ]{1,40}\|>|<(?:eos|end_of_turn|bos|pad)>"
    r"|\A\s*(?:<\|\w+\|>)?\s*(?:assistant|model)\s*[:\n]|(?<=\S)#{2,}\s*\Z",
    re.IGNORECASE,
)
"""What is left in a reply whose engine did not take special tokens out."""


def answer_of(reply: str) -> str:
    """The answer alone: without reasoning, without the tags around it and without control tokens.

    Of several ``<answer>`` the last one counts. An answer in no tag comes back as it is.
    """
    text = without_control(reply)
    tagged = [match[2] for match in _TAGGED.finditer(text) if match[2]]
    return (tagged[-1] if tagged else text).strip()


def without_control(reply: str) -> str:
    """A reply without reasoning and without control tokens; tags stay."""
    return _CONTROL.sub(" ", separate(reply).answer).strip()


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
