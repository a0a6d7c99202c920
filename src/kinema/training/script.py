"""What a model reads of a finished conversation, and which of it it learns to say.

A chat template writes the whole conversation. The model learns what it has to produce: every
answer from where its prompt ends, up to and with the control token that ends it. Both borders are
found by asking the template, so they are exact for templates that nobody told us about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from kinema.errors import ModelError, UsageError
from kinema.families import Checkpoint, Family
from kinema.messages import Conversation, Message, TextPart
from kinema.prompt import write

_OPEN, _CLOSE = "\uf8fd", "\uf8fc"
"""Private characters that stand around an answer while the template is asked where it goes."""
_SPAN = re.compile(f"{_OPEN}(?:.|\n)*?{_CLOSE}")


@dataclass(frozen=True)
class Script:
    """A conversation as text, cut where learning begins and ends."""

    pieces: tuple[str, ...]
    """Untrained and trained text in turn, the first untrained."""
    literals: tuple[str, ...]
    """Strings of the user that stand behind the guards, see :class:`~kinema.messages.Prompt`."""

    @property
    def text(self) -> str:
        """The whole conversation."""
        return "".join(self.pieces)

    @property
    def trained(self) -> tuple[str, ...]:
        """The pieces that are learned."""
        return self.pieces[1::2]


def write_script(conversation: Conversation, *, family: Family, checkpoint: Checkpoint) -> Script:
    """Write a decoded conversation as training sees it.

    Raises:
        UsageError: there is no answer in it, or one holds a character kept for marks.
        ModelError: the template changes what the assistant says.
    """
    answers = [i for i, turn in enumerate(conversation.messages) if turn.role == "assistant"]
    if not answers:
        raise UsageError(
            "There is no answer to learn from.", hint="A sample ends with the assistant's words."
        )
    wanted = write(conversation, family=family, checkpoint=checkpoint, add_generation_prompt=False)
    marked = _marked_text(conversation, wanted.text, family=family, checkpoint=checkpoint)
    places = [
        (m.start() - 2 * i, m.end() - 2 * i - 2) for i, m in enumerate(_SPAN.finditer(marked))
    ]
    tails = [_tail(conversation, i, family=family, checkpoint=checkpoint) for i in answers]
    if len(places) != len(answers):
        raise _refusal()
    ends = _ends(family, checkpoint)
    borders = [0]
    for (start, end), tail in zip(places, tails, strict=True):
        ending = ends.match(wanted.text, end)
        borders += [_begin(wanted.text, start, tail), ending.end() if ending else end]
    pieces = (wanted.text[i:j] for i, j in pairwise([*borders, len(wanted.text)]))
    return Script(tuple(pieces), wanted.literals)


def _marked_text(
    conversation: Conversation, wanted: str, *, family: Family, checkpoint: Checkpoint
) -> str:
    """The text with marks around the answers; they must be all that is new in it."""
    for strips in (False, True):  # many templates strip what the assistant says
        marked = Conversation(tuple(_mark(turn, strips) for turn in conversation.messages))
        text = write(marked, family=family, checkpoint=checkpoint, add_generation_prompt=False).text
        if text.replace(_OPEN, "").replace(_CLOSE, "") == wanted:
            return text
    raise _refusal()


def _mark(turn: Message, strips: bool) -> Message:
    if _OPEN in turn.text or _CLOSE in turn.text:
        raise UsageError(
            "The text holds U+F8FC or U+F8FD, which stand for marks here.",
            hint="Take these private characters out of the data.",
        )
    if turn.role != "assistant":
        return turn
    said = turn.text.strip() if strips else turn.text
    return replace(turn, parts=(TextPart(f"{_OPEN}{said}{_CLOSE}"),))


def _refusal() -> ModelError:
    return ModelError(
        "The chat template does not repeat what the assistant says, so answers cannot be learned.",
        hint="Choose another with --conv-mode, vicuna_v1_1 for one.",
    )


def _tail(conversation: Conversation, index: int, *, family: Family, checkpoint: Checkpoint) -> str:
    """The white space that ends the prompt of an answer."""
    asked = Conversation(conversation.messages[:index])
    text = write(asked, family=family, checkpoint=checkpoint).text
    return text[len(text.rstrip()) :]


def _begin(text: str, start: int, tail: str) -> int:
    """Where the answer at ``start`` begins for a model whose prompt ends with ``tail``."""
    space = text[len(text[:start].rstrip()) : start]
    return start - len(space.removeprefix(tail)) if space.startswith(tail) else start


def _ends(family: Family, checkpoint: Checkpoint) -> re.Pattern[str]:
    """What may end an answer: a control token behind white space, or white space alone."""
    media = {family.video_placeholder, family.image_placeholder}
    tokens = sorted({*checkpoint.control_tokens} - media, key=len, reverse=True)
    either = "|".join(map(re.escape, tokens))
    return re.compile(rf"\s*(?:{either})|\s+" if either else r"\s+")
