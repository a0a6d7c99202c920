"""From a reply to an answer of the kind that the item wants, or to None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinema.datasets.segments import Parsed, parse_segments
from kinema.evaluation.choice import LETTERS, parse_choice
from kinema.evaluation.numbers import read_count, read_span
from kinema.evaluation.records import Item, Record


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
            return read_count(reply)
        case "span":
            return read_span(reply)
        case "segments":
            return _segments(reply, item)
        case _:
            return reply or None


def _segments(reply: str, item: Item) -> Parsed | None:
    parsed = parse_segments(
        reply,
        ends=item.facts.get("ends", "inclusive"),
        fps=item.facts.get("fps"),
        vocabulary=item.facts.get("vocabulary", ()),
        last_end=item.facts.get("num_frames"),
    )
    return parsed if parsed.segments else None
