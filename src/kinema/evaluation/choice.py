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
    ending      the reply ends with a letter behind a comma
    text        the words of exactly one option

A letter that is ruled out ("B is wrong", "not B", "A. a dog: no") is no pick. "A" and "I" in front
of a word are an article and a pronoun, never an option. A letter whose own words are those of
another option is a contradiction and stays unparsed. Where a reply corrects itself ("actually",
"on second thought"), what it says last counts, if that picks by one of the first five rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kinema.evaluation import choice_patterns as patterns
from kinema.evaluation.normalise import plain_words, without_control, words

Rule = Literal[
    "tag",
    "lone",
    "final",
    "statement",
    "leading",
    "marked",
    "last line",
    "ending",
    "text",
    "unparsed",
]
_SURE: tuple[Rule, ...] = ("tag", "lone", "final", "statement", "leading")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Choice:
    """What a reply picked and by which rule; ``index`` is None when it is unparsed."""

    index: int | None
    rule: Rule


UNPARSED = Choice(None, "unparsed")
"""Nothing to read, or a contradiction."""
UNPICKED = Choice(None, "unparsed")
"""No letter was picked; the words may pick one."""


@dataclass(frozen=True)
class _Mention:
    """A letter that may stand for an option, and the text around it."""

    index: int
    before: str
    after: str
    bracketed: bool
    verdict: bool | None
    """Whether a list of verdicts calls it right."""


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
    *_, last = patterns.REVISED.split(text)
    if last != text and (revised := _by_letter(last, options)).rule in _SURE:
        return revised
    found = _by_letter(text, options)
    return _by_text(text, options) if found is UNPICKED else found


def _by_letter(text: str, options: Sequence[str]) -> Choice:
    for rule, picks in _picks_by_rule(text, options):
        found = set(picks)
        if len(found) > 1:
            return UNPARSED
        if found:
            index = found.pop()
            return UNPARSED if _contradicts(text, index, options) else Choice(index, rule)
    return UNPICKED


def _picks_by_rule(text: str, options: Sequence[str]) -> Iterator[tuple[Rule, list[int]]]:
    mentions = [m for m in _mentions(text, options) if not _ruled_out(m)]
    yield "tag", _tagged(text, len(options))
    yield "lone", _lone(text, len(options)) or _numbered(text, options)
    yield "final", _with_partners(m for m in mentions if patterns.FINAL_BEFORE.search(m.before))
    yield "statement", _with_partners(m for m in mentions if _is_statement(m))
    yield "leading", _leading(text, options)
    yield "marked", _with_partners(m for m in mentions if _is_marked(m))
    yield "last line", _lone(text.rpartition("\n")[2], len(options))
    yield "ending", [m.index for m in mentions if _ends_reply(m)]


_LOOK_BACK = 120
"""No phrase in front of a letter is longer than this."""


def _clean(reply: str) -> str:
    """Thoughts, Markdown and typographic variants taken out; lines kept."""
    text = unicodedata.normalize("NFKC", without_control(reply))
    text = "".join(" " if unicodedata.category(char) == "So" else char for char in _ticked(text))
    text = patterns.LATEX_BRACKETS.sub(" ", text)
    text = patterns.LATEX_TEXT.sub(r"\1", text).replace("’", "'").replace("$", "")
    return patterns.MARKDOWN.sub("", text).strip()


def _ticked(text: str) -> str:
    """A text whose ticks and crosses are words, before other pictograms are taken out."""
    return text.translate(patterns.TICKS)


def _mentions(text: str, options: Sequence[str]) -> Iterator[_Mention]:
    """Every letter that could stand for one of the options."""
    for match in patterns.LETTER.finditer(text):
        index = LETTERS.index(match["letter"].upper())
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        after = text[match.end() :]
        in_brackets = bool(match["open"] and match["close"])
        is_word = match["letter"] in "AaIi" and not patterns.NO_ARTICLE_AFTER.match(after)
        if index < len(options) and (in_brackets or not is_word):
            verdict = _verdict(after, match["close"], options, index)
            is_quoted = bool(match["open"]) and match["open"] in patterns.QUOTES
            bracketed = (in_brackets and not is_quoted) or match["close"] == ")"
            yield _Mention(index, before, after, bracketed, verdict)


def _verdict(after: str, closed: str, options: Sequence[str], index: int) -> bool | None:
    """What a list of verdicts ("A: wrong. B. a cat - right") says of a label; None for nothing."""
    label = patterns.LABEL_END.match(after)
    rest = after[label.end() if label else 0 :]
    own = options[index].strip()
    has_own = bool(own) and rest[: len(own)].lower() == own.lower()
    if has_own:
        rest = rest[len(own) :].lstrip(" .,;:–—-(")
    elif not (label and label[0].strip()) and not closed:
        return None
    if not has_own and any(words(option)[:1] in (["yes"], ["no"]) for option in options):
        return None  # "B. No" is an option here
    if not has_own and "." in (label[0] if label else "") and rest[:1].isupper():
        return None  # a new sentence: "The answer is A. No, wait."
    if patterns.REFUTED_LABEL.match(rest):
        return False
    return True if patterns.PRAISED_LABEL.match(rest) else None


def _ruled_out(mention: _Mention) -> bool:
    is_asked = mention.after.lstrip()[:1] == "?" and patterns.ASKED_BEFORE.search(mention.before)
    return mention.verdict is False or bool(
        is_asked
        or patterns.REFUTED_AFTER.match(mention.after)
        or patterns.EXCLUDED_BEFORE.search(mention.before)
    )


def _is_statement(mention: _Mention) -> bool:
    return mention.verdict is True or bool(
        patterns.PRAISE_AFTER.match(mention.after)
        or patterns.STATEMENT_BEFORE.search(mention.before)
    )


def _is_marked(mention: _Mention) -> bool:
    return mention.bracketed or bool(patterns.OPTION_BEFORE.search(mention.before))


def _ends_reply(mention: _Mention) -> bool:
    before, after = patterns.LAST_BEHIND_COMMA
    return bool(before.search(mention.before) and after.fullmatch(mention.after))


def _with_partners(mentions: Iterable[_Mention]) -> list[int]:
    """The options of the mentions, and those that "A or B" names beside them."""
    return [i for m in mentions for i in (m.index, *_partner(m.after), *_partner_before(m.before))]


def _partner_before(before: str) -> list[int]:
    match = patterns.PARTNER_BEFORE.search(before)
    return [LETTERS.index(match[1])] if match else []


def _partner(after: str) -> list[int]:
    match = patterns.PARTNER.match(after) or patterns.NEXT_LABEL.match(after)
    if match is None:
        return []
    rest = after[match.end() :]
    is_word = match[1] in "AI" and not patterns.NO_ARTICLE_AFTER.match(rest)
    return [] if is_word or patterns.REFUTED_AFTER.match(rest) else [LETTERS.index(match[1])]


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


def _numbered(text: str, options: Sequence[str]) -> list[int]:
    """``A: C`` for "answer: C", and "the second option", where no option is called so itself."""
    if (label := patterns.ANSWER_LABEL.fullmatch(text)) and options[0].upper() != label[1].upper():
        return _in_range(label[1], len(options))
    match = patterns.ORDINAL.fullmatch(text)
    if match is None or any(char.isdigit() for option in options for char in option):
        return []
    index = int(match[2]) - 1 if match[2] else patterns.ORDINALS.index(match[1].lower())
    return [index] if 0 <= index < len(options) else []


def _leading(text: str, options: Sequence[str]) -> list[int]:
    """Letters that begin a line; several different ones are a list, not an answer."""
    found = []
    for match in patterns.LEADING.finditer(text):
        after = text[match.end() :]
        letter = _in_range(_letter_of(match), len(options))
        wrong = letter and _verdict(after, ":", options, letter[0]) is False
        if not wrong and not patterns.REFUTED_AFTER.match(after):
            found += [*letter, *_partner(after)]
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
    tagged = [match["tagged"] or match["boxed"] for match in patterns.TAG.finditer(text)]
    text = next(filter(None, reversed(tagged)), text)
    plain = [" ".join(plain_words(option)) for option in options]
    if all(option in patterns.SAID_ALONE for option in plain):
        said = [i for i, option in enumerate(plain) if patterns.stands_alone(option).search(text)]
        return Choice(said[0], "text") if len(said) == 1 else UNPARSED
    kept = patterns.ASKED_AND_DENIED.sub(" ", text)
    found = _options_in(plain_words(kept), [option.split() for option in plain])
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
    if " ".join(words) in patterns.SAID_ALONE:
        return [0] if reply[: len(words)] == words else []
    starts = range(len(reply) - len(words) + 1)
    return [at for at in starts if reply[at : at + len(words)] == words]


def _contradicts(text: str, index: int, options: Sequence[str]) -> bool:
    """True when the words behind the letter are, to the end of the line, another option's."""
    for mention in _mentions(text, options):
        said = plain_words(next(iter(mention.after.splitlines()), ""))
        same = [i for i, option in enumerate(options) if plain_words(option) == said]
        if mention.index == index and same and index not in same:
            return True
    return False
