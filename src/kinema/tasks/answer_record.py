"""What a record becomes when it has been answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kinema.errors import KinemaError
from kinema.jobs.ledger import Unit
from kinema.messages import Reply

_ADDED = ("prompt", "full_text", "pred_answer", "reasoning", "model_id", "answer_id", "metadata",
          "frames", "subtitles", "usage", "finish_reason", "logprobs", "error")  # fmt: skip


def answered_record(
    payload: Mapping[str, Any], prompt: str, reply: Reply, *, model_id: str, ends: Sequence[str]
) -> dict[str, Any]:
    """A record with what the model said about it.

    Args:
        payload: the record as it was given.
        prompt: its words, placeholders included.
        reply: what was sent, shown and said.
        model_id: what the record calls the model.
        ends: strings that are cut off behind the answer.
    """
    said = reply.completion
    record = {
        **payload,
        "prompt": prompt,
        "full_text": reply.prompt + said.text,
        "pred_answer": without_ends(said.text, ends),
        "model_id": model_id,
        "answer_id": payload.get("answer_id", 0),
        "metadata": payload.get("metadata", {}),
        "frames": [one.to_dict() for one in reply.shown],
        "usage": vars(said.usage).copy(),
        "finish_reason": said.finish_reason,
        "error": None,
    }
    if said.reasoning:
        record["reasoning"] = said.reasoning
    if said.logprobs is not None:
        record["logprobs"] = [vars(token).copy() for token in said.logprobs]
    return record


def final_record(record: Any, unit: Unit, stopped: KinemaError | None = None) -> dict[str, Any]:
    """The record as it was given, and what was found about it, in a fixed order.

    Args:
        record: as it was given.
        unit: what became of it.
        stopped: what ended the run before all records were answered.
    """
    own = dict(record) if isinstance(record, Mapping) else {"record": record}
    if unit.state == "todo" and stopped is not None:
        return own | {"pred_answer": None, "error": f"Still to do; the run stopped: {stopped}"}
    if unit.state != "done":
        return own | {"pred_answer": None, "error": unit.error or unit.state}
    return own | {name: unit.result[name] for name in _ADDED if name in unit.result}


def without_ends(text: str, ends: Sequence[str]) -> str:
    """The answer without an end string behind it: the string, never its characters."""
    text = text.strip()
    for end in ends:
        text = text.removesuffix(end).rstrip()
    return text
