"""From a reply to an answer of the kind that the item wants, or to None."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kinema.datasets.segments import Parsed, parse_segments
from kinema.errors import UsageError
from kinema.evaluation.choice import LETTERS, parse_choice
from kinema.evaluation.normalise import plain_words
from kinema.evaluation.records import Item, Record
from kinema.types import parse_seconds


@dataclass(frozen=True)
class Answer:
    """An item, and what was read from the reply to it."""

    record: Record
    value: Any
    """int, str, float, (start, end) or :class:`Parsed`; None when unparsed or not answered."""
    rule: str = ""
    """How it was read, where there are several ways."""

    @property
    def item(self) -> Item:
        """The question."""
        return self.record.item

    def to_dict(self) -> dict[str, Any]:
        """What was read, ready for JSON."""
        parsed = self.value
        if isinstance(parsed, Parsed):
            parsed = {
                "segments": [[s.start, s.end, s.label] for s in parsed.segments],
                "unparsed_lines": list(parsed.unparsed_lines),
                "unknown_labels": list(parsed.unknown_labels),
            }
        elif self.item.task == "choice" and parsed is not None:
            parsed = LETTERS[parsed]
        return {"parsed": parsed, "rule": self.rule}


def read_answer(record: Record) -> Answer:
    """Read the reply of a record the way its task wants."""
    item, prediction = record.item, record.prediction
    if prediction.option_scores is not None:
        scores = prediction.option_scores
        return Answer(record, max(range(len(scores)), key=scores.__getitem__), "ranked")
    if prediction.reply is None:
        return Answer(record, None)
    if item.task == "choice":
        choice = parse_choice(prediction.reply, item.options, lettered=item.lettered)
        return Answer(record, choice.index, choice.rule)
    return Answer(record, _read(prediction.answer, item))


def _read(reply: str, item: Item) -> Any:
    match item.task:
        case "count":
            return _count(reply)
        case "span":
            return _span(reply)
        case "segments":
            return _segments(reply, item)
        case _:
            return reply or None


def _count(reply: str) -> float | None:
    """The only number of the reply; several different ones are no answer."""
    words = plain_words(reply)
    numbers = {float(word) for word in words if word.replace(".", "", 1).isdigit()}
    return numbers.pop() if len(numbers) == 1 else None


_SPAN = re.compile(
    r"(\d+(?::\d{1,2}){0,2}(?:\.\d+)?)\s*(?:seconds?|secs?|s)?\s*(?:-|–|—|to|until|till|and|,)\s*"
    r"(\d+(?::\d{1,2}){0,2}(?:\.\d+)?)",
    re.IGNORECASE,
)


def _span(reply: str) -> tuple[float, float] | None:
    """The only range of times of the reply."""
    found = {_times(*pair) for pair in _SPAN.findall(reply)} - {None}
    return found.pop() if len(found) == 1 else None


def _times(start: str, end: str) -> tuple[float, float] | None:
    try:
        seconds = parse_seconds(start), parse_seconds(end)
    except UsageError:
        return None
    return seconds if seconds[0] < seconds[1] else None


def _segments(reply: str, item: Item) -> Parsed | None:
    parsed = parse_segments(
        reply,
        ends=item.facts.get("ends", "inclusive"),
        fps=item.facts.get("fps"),
        vocabulary=item.facts.get("vocabulary", ()),
        last_end=item.facts.get("num_frames"),
    )
    return parsed if parsed.segments else None
