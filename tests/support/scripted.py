"""A model that says what a test tells it to, behind the engine protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item
from kinema.families import FAMILIES, Checkpoint
from kinema.messages import Completion, Request

Reply = Callable[[Request], str | Completion]


class ScriptedModel:
    """Stands where ``find_model`` returns a model."""

    engine = "scripted"
    family = FAMILIES["echo"]

    def __init__(self, reply: Reply, name: str = "scripted") -> None:
        self.name = name
        self.checkpoint = Checkpoint(name, None, {})
        self.asked: list[Request] = []
        self._reply = reply

    def open(self, settings: Any) -> ScriptedModel:
        return self

    context_length = None

    def count_tokens(self, request: Request) -> int:
        return len(request.prompt.text.split())

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            said = self._reply(request)
            yield said if isinstance(said, Completion) else Completion(request.id, said)

    def close(self) -> None:
        pass


def right_answer(item: Item) -> str:
    """What a perfect model would say."""
    if item.task == "choice":
        assert item.answer is not None
        return LETTERS[item.answer] if item.lettered else item.options[item.answer]
    if item.task == "span":
        return " - ".join(item.references[0].split())
    return "\n".join(item.references) if item.task == "segments" else item.references[0]


def perfect(benchmark: Any, root: Path, split: str = "") -> Reply:
    answers = {item.id: right_answer(item) for item in benchmark.items(root, split=split)}
    return lambda request: answers[request.id]
