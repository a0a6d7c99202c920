"""What a model thinks before it answers, and the answer: taken apart once, for every engine.

Most models write their reasoning between marks in front of the answer. Some chat templates open it
themselves, so that only the closing mark is in the reply. Servers that know the model send the
reasoning in a field of its own instead; see :mod:`kinema.engines.openai.replies`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MARKS: dict[str, str] = {
    "<think>": "</think>",  # DeepSeek-R1, Qwen3, InternVL 3.5, GLM-4.1V, MiMo-VL, Video-R1 and kin
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<analysis>": "</analysis>",  # Keye-VL, in front of its decision whether to think
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "[THINK]": "[/THINK]",  # Magistral
    "\u25c1think\u25b7": "\u25c1/think\u25b7",  # Kimi-VL
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1, OpenThinker
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # harmony, of gpt-oss
    "<|channel>": "<channel|>",  # Gemma 4
}
"""Opening marks of reasoning and the closing ones that belong to them, by family."""

FRAMES = (
    *("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.1V and 4.5V, around the answer's last word
    *("<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""Marks around an answer that are never part of it."""

_TAGS = ("<answer>", "</answer>")
"""Around the answer of models that learned ``<think>…</think><answer>…</answer>``. Left where there
is no reasoning: the user may have asked for them."""

REASONING_MARKS = frozenset((*MARKS, *MARKS.values(), *FRAMES))
"""Every mark that decoding must leave in a reply, so that it can be taken apart."""

_EVERY = (*MARKS, *MARKS.values(), *FRAMES, *_TAGS)


def _any_of(marks: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, marks)), re.IGNORECASE)


_OPEN, _CLOSE = _any_of(MARKS), _any_of(MARKS.values())
_FRAME, _TAG, _ANY = _any_of(FRAMES), _any_of(_TAGS), _any_of(_EVERY)
_JSON = ("{", "[", '"')
_TURN = re.compile(r"<\|(?:end|start)\|>(?:assistant)?")


@dataclass(frozen=True)
class Separated:
    """A reply in its two parts, without the marks."""

    answer: str
    reasoning: str = ""


def opens_reasoning(prompt: str) -> bool:
    """Whether a rendered prompt ends inside of the reasoning, so that the reply only closes it."""
    return prompt.rstrip().endswith(tuple(MARKS))


def separate(text: str, *, opened: bool = False, is_json: bool = False) -> Separated:
    """The answer of a reply, and the reasoning in front of it.

    The answer is what follows the last closing mark. Reasoning that was begun and not closed, as
    the reply was cut, is no answer.

    Args:
        text: a whole reply; one that was separated already comes back as it is.
        opened: the prompt opened the reasoning; see :func:`opens_reasoning`.
        is_json: the answer was held to a schema: marks in its strings are text.
    """
    if is_json and text.lstrip().startswith(_JSON):
        return Separated(text.strip())
    closings = list(_CLOSE.finditer(text))
    end = closings[-1].end() if closings else 0
    reasoning, answer = text[:end], text[end:]
    if opened and not closings:
        return Separated("", _bare(text))
    if begun := _OPEN.search(answer):
        answer, reasoning = answer[: begun.start()], reasoning + answer[begun.start() :]
    if not answer.strip() and (begun := _OPEN.search(reasoning)):
        # The reasoning stands behind the answer, as some models justify themselves.
        answer, reasoning = reasoning[: begun.start()], reasoning[begun.start() :]
    if reasoning:
        answer = _TAG.sub("", answer)
    return Separated(_FRAME.sub("", answer).strip(), _bare(reasoning))


def _bare(reasoning: str) -> str:
    for marks in (_OPEN, _CLOSE, _TURN, _FRAME):
        reasoning = marks.sub("", reasoning)
    return reasoning.strip()


class AnswerStream:
    """Shows of a reply that comes in pieces what :func:`separate` would call its answer.

    A closing mark that nothing opened comes too late for what was shown; the whole reply is read
    right all the same.

    Args:
        opened: as for :func:`separate`, and so is ``is_json``.
    """

    def __init__(self, *, opened: bool = False, is_json: bool = False) -> None:
        self.shown = ""
        self._is_json = is_json
        self._text = ""
        """What was neither shown nor dropped yet."""
        self._thinks = opened
        self._has_thought = opened

    def add(self, piece: str) -> str:
        """Take a piece in; returns what can be shown now."""
        self._text += piece
        said = ""
        if self._is_json and (self.shown or self._text.lstrip().startswith(_JSON)):
            said, self._text = self._text, ""
            return self._show(said)
        while True:
            found = (_CLOSE if self._thinks else _ANY).search(self._text)
            if found is None:
                break
            said += self._pass(found)
        if not self._thinks:
            ready = len(self._text) - _num_begun(self._text)
            said += self._text[:ready]
            self._text = self._text[ready:]
        return self._show(said)

    def rest(self, answer: str) -> str:
        """What was not shown of the whole answer."""
        return answer[len(self.shown) :] if answer.startswith(self.shown) else ""

    def _pass(self, found: re.Match[str]) -> str:
        """Step over a mark; returns the answer's text in front of it."""
        before, mark = self._text[: found.start()], found[0]
        if _TAG.fullmatch(mark) and not self._has_thought:
            before += mark
        self._text = self._text[found.end() :]
        was_thinking, self._thinks = self._thinks, _OPEN.fullmatch(mark) is not None
        self._has_thought |= self._thinks or _CLOSE.fullmatch(mark) is not None
        return "" if was_thinking else before

    def _show(self, said: str) -> str:
        if not self.shown:
            said = said.lstrip()
        # White space at the end may be in front of a mark, or the end of all.
        kept = said.rstrip()
        self._text = said[len(kept) :] + self._text
        self.shown += kept
        return kept


def _num_begun(text: str) -> int:
    """Characters at the end of a text that may become a mark."""
    end = text[-max(map(len, _EVERY)) :].lower()
    begun = (n for mark in _EVERY for n in range(1, len(mark)) if end.endswith(mark[:n].lower()))
    return max(begun, default=0)
