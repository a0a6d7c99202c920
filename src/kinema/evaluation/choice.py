"""Which option a reply picks: read by rule, never guessed.

The rules, first to last; the first that finds exactly one option decides, and the first that finds
two different ones ends the search without an answer:

    tag         ``<answer>B</answer>``, ``\\boxed{B}``
    lone        the whole reply is a letter: ``b``, ``(B).``, ``Option B``
    final       "final answer: B"
    statement   "the answer is B", "I would go with (B)", "B is correct"
    leading     the reply, or its only lettered line, begins ``B.``, ``(B)``, ``b)``, ``B:``
    marked      one option in brackets, or after the word "option"
    last line   the last line is a letter
    text        the words of exactly one option

A letter that is ruled out ("B is wrong", "not B") is no pick. "A" and "I" in front of a word are an
article and a pronoun, never an option. A letter whose own words are those of another option is a
contradiction and stays unparsed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kinema.evaluation import choice_patterns as patterns
from kinema.evaluation.normalise import plain_words
from kinema.reasoning import separate

Rule = Literal[
    "tag", "lone", "final", "statement", "leading", "marked", "last line", "text", "unparsed"
]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Choice:
    """What a reply picked and by which rule; ``index`` is None when it is unparsed."""

    index: int | None
    rule: Rule


UNPARSED = Choice(None, "unparsed")


@dataclass(frozen=True)
class _Mention:
    """A letter that may stand for an option, and the text around it."""

    index: int
    before: str
    after: str
    bracketed: bool


def parse_choice(reply: str, options: Sequence[str], *, lettered: bool = True) -> Choice:
    """Read which of ``options`` a reply picks.

    Args:
        reply: the model's text, as it is.
        options: their texts, in the order A, B, C, …
        lettered: False when the prompt showed no letters; then only the texts count.
    """
    text = _clean(reply)
    if not lettered:
        return _by_text(text, options)
    for rule, picks in _picks_by_rule(text, options):
        found = set(picks)
        if len(found) > 1:
            return UNPARSED
        if found:
            index = found.pop()
            return UNPARSED if _contradicts(text, index, options) else Choice(index, rule)
    return _by_text(text, options)


def _picks_by_rule(text: str, options: Sequence[str]) -> Iterator[tuple[Rule, list[int]]]:
    mentions = [m for m in _mentions(text, len(options)) if not _ruled_out(m)]
    yield "tag", _tagged(text, len(options))
    yield "lone", _lone(text, len(options))
    yield "final", _with_partners(m for m in mentions if patterns.FINAL_BEFORE.search(m.before))
    yield "statement", _with_partners(m for m in mentions if _is_statement(m))
    yield "leading", _leading(text, options)
    yield "marked", _with_partners(m for m in mentions if _is_marked(m))
    yield "last line", _lone(text.rpartition("\n")[2], len(options))


_LOOK_BACK = 120
"""No phrase in front of a letter is longer than this."""


def _clean(reply: str) -> str:
    """Thoughts, Markdown and typographic variants taken out; lines kept."""
    text = unicodedata.normalize("NFKC", separate(reply).answer)
    text = patterns.LATEX_TEXT.sub(r"\1", text).replace("’", "'").replace("$", "")
    return patterns.MARKDOWN.sub("", text).strip()


def _mentions(text: str, count: int) -> Iterator[_Mention]:
    """Every letter that could stand for one of ``count`` options."""
    for match in patterns.LETTER.finditer(text):
        index = LETTERS.index(match["letter"].upper())
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        after = text[match.end() :]
        in_brackets = bool(match["open"] and match["close"])
        is_word = match["letter"] in "AaIi" and not patterns.NO_ARTICLE_AFTER.match(after)
        if index < count and (in_brackets or not is_word):
            yield _Mention(index, before, after, in_brackets or match["close"] == ")")


def _ruled_out(mention: _Mention) -> bool:
    return bool(
        patterns.REFUTED_AFTER.match(mention.after)
        or patterns.EXCLUDED_BEFORE.search(mention.before)
    )


def _is_statement(mention: _Mention) -> bool:
    return bool(
        patterns.PRAISE_AFTER.match(mention.after)
        or patterns.STATEMENT_BEFORE.search(mention.before)
    )


def _is_marked(mention: _Mention) -> bool:
    return mention.bracketed or bool(patterns.OPTION_BEFORE.search(mention.before))


def _with_partners(mentions: Iterable[_Mention]) -> list[int]:
    """The options of the mentions, and those that "A or B" names beside them."""
    return [i for m in mentions for i in (m.index, *_partner(m.after))]


def _partner(after: str) -> list[int]:
    match = patterns.PARTNER.match(after) or patterns.NEXT_LABEL.match(after)
    return [LETTERS.index(match[1])] if match else []


def _tagged(text: str, count: int) -> list[int]:
    contents = (m["tagged"] or m["boxed"] or "" for m in patterns.TAG.finditer(text))
    return [index for content in contents for index in _label_of(content.strip(), count)]


def _label_of(content: str, count: int) -> list[int]:
    """The option of a tag's content: a letter alone or in front of its text."""
    leading = patterns.LEADING.match(content)
    return _in_range(_letter_of(leading), count) if leading else _lone(content, count)


def _lone(text: str, count: int) -> list[int]:
    match = patterns.LONE.fullmatch(text.strip())
    return _in_range(match[1], count) if match else []


def _leading(text: str, options: Sequence[str]) -> list[int]:
    """Letters that begin a line; several different ones are a list, not an answer."""
    found = []
    for match in patterns.LEADING.finditer(text):
        after = text[match.end() :]
        if not patterns.REFUTED_AFTER.match(after):
            found += [*_in_range(_letter_of(match), len(options)), *_partner(after)]
    return found or _letter_and_text(text, options)


def _letter_of(match: re.Match[str]) -> str:
    return next(str(group) for group in match.groups() if group)


def _letter_and_text(text: str, options: Sequence[str]) -> list[int]:
    """``B cooking dinner``: a bare letter counts when its own text follows."""
    letter, _, rest = text.partition(" ")
    indices = _in_range(letter, len(options)) if len(letter) == 1 else []
    return [i for i in indices if plain_words(rest) == plain_words(options[i])]


def _in_range(letter: str, count: int) -> list[int]:
    index = LETTERS.find(letter.upper())
    return [index] if 0 <= index < count else []


def _by_text(text: str, options: Sequence[str]) -> Choice:
    found = _options_in(plain_words(text), [plain_words(option) for option in options])
    return Choice(found[0], "text") if len(found) == 1 else UNPARSED


def _options_in(reply: list[str], options: list[list[str]]) -> list[int]:
    """Options whose words stand in the reply, longest first; a covered one does not count."""
    equal = [i for i, words in enumerate(options) if words == reply and words]
    if equal:
        return equal
    free = list(reply)
    found = []
    for index in sorted(range(len(options)), key=lambda i: -len(options[i])):
        places = _places(options[index], free)
        if any(patterns.DENIALS.isdisjoint(free[max(0, at - 2) : at]) for at in places):
            found.append(index)
        for at in places:
            free[at : at + len(options[index])] = [""] * len(options[index])
    return found


def _places(words: list[str], reply: list[str]) -> list[int]:
    if not words:
        return []
    if " ".join(words) in patterns.ONLY_AT_THE_BEGINNING:
        return [0] if reply[: len(words)] == words else []
    starts = range(len(reply) - len(words) + 1)
    return [at for at in starts if reply[at : at + len(words)] == words]


def _contradicts(text: str, index: int, options: Sequence[str]) -> bool:
    """True when the words behind the letter are, to the end of the line, another option's."""
    for mention in _mentions(text, len(options)):
        said = plain_words(next(iter(mention.after.splitlines()), ""))
        same = [i for i, option in enumerate(options) if plain_words(option) == said]
        if mention.index == index and same and index not in same:
            return True
    return False
