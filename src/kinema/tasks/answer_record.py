"""What a record becomes when it has been answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kinema.ledger import Unit
from kinema.messages import ImagePart, Part, Prompt, Request, VideoPart
from kinema.types import Features, Frames

_ADDED = (
    "prompt",
    "full_text",
    "pred_answer",
    "model_id",
    "answer_id",
    "metadata",
    "frames",
    "usage",
    "finish_reason",
    "logprobs",
    "error",
)


def final_record(record: Any, unit: Unit) -> dict[str, Any]:
    """The record as it was given, and what was found about it, in a fixed order."""
    own = dict(record) if isinstance(record, Mapping) else {"record": record}
    if unit.state != "done":
        return own | {"pred_answer": None, "error": unit.error or unit.state}
    return own | {name: unit.result[name] for name in _ADDED if name in unit.result}


def seen_by(request: Request) -> list[Frames | Features]:
    """Frames and features that went to the model, in prompt order."""
    return [*(medium.frames for medium in request.media), *request.features]


def with_name(part: Part, name: str) -> Part:
    """Frames are called what the record calls them, also when they came out of a tar."""
    if isinstance(part, VideoPart | ImagePart) and isinstance(part.source, Frames):
        return replace(part, source=replace(part.source, source=name))
    return part


def spoken(prompt: Prompt) -> str:
    """The prompt as a person would read it, literals in their places."""
    literals = iter(prompt.literals)
    return re.sub(Prompt.GUARD, lambda _: next(literals), prompt.text)


def without_ends(text: str, ends: Sequence[str]) -> str:
    """The answer without an end string behind it: the string, never its characters."""
    text = text.strip()
    for end in ends:
        text = text.removesuffix(end).rstrip()
    return text
