"""A model that says what a test tells it to, behind the engine protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kinema.engines import EngineSettings, Inbox
from kinema.engines.scheduler import Scheduler
from kinema.errors import KinemaError
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item
from kinema.families import FAMILIES, Checkpoint
from kinema.messages import Completion, Request
from kinema.tasks.imports import CheckpointParts

Reply = Callable[[Request], str | Completion]


class ScriptedModel:
    """Stands where ``find_model`` returns a model, and is its engine as well.

    Args:
        reply: what is said to a request; a request-blamed error that it raises fails that request
            alone, as an engine does that found out itself, and any other ends the batch.
        name: of the model.
        batch_size: requests that begin together.
    """

    engine = "scripted"
    family = FAMILIES["echo"]
    parts = CheckpointParts()
    context_length: int | None = None

    def __init__(self, reply: Reply, name: str = "scripted", *, batch_size: int = 1) -> None:
        self.name = name
        self.checkpoint = Checkpoint(name, None, {})
        self.batch_size = batch_size
        self.asked: list[Request] = []
        self.num_opened = 0
        self._reply = reply

    def open(self, settings: EngineSettings) -> ScriptedModel:
        self.num_opened += 1
        return self

    def scheduler(self, settings: EngineSettings, **options: Any) -> Scheduler:
        return Scheduler(
            lambda: self.open(settings), family=self.family, checkpoint=self.checkpoint, **options
        )

    def count_tokens(self, request: Request) -> int:
        return len(request.prompt.text.split())

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        return list(waiting[: self.batch_size])

    def serve(self, inbox: Inbox) -> None:
        while taken := inbox.take():
            self.asked += taken
            for request in taken:
                try:
                    answer = self._reply(request)
                except KinemaError as problem:
                    if problem.blame != "request":
                        raise
                    inbox.fail(request.id, problem)
                    continue
                if isinstance(answer, str):
                    answer = Completion(request.id, answer)
                inbox.complete(answer)

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


def asks_about(request: Request, item: Item) -> bool:
    """Whether a request, its video included, is that of an item."""
    shown = [medium.frames.source for medium in request.media]
    about_video = not shown or all(source.endswith(item.video) for source in shown)
    return about_video and item.question in request.conversation.messages[-1].text


def right_answer(item: Item) -> str:
    """What a perfect model would say."""
    if item.task == "choice":
        assert item.answer is not None
        return LETTERS[item.answer] if item.lettered else item.options[item.answer]
    if item.task == "span":
        return " - ".join(item.references[0].split())
    return "\n".join(item.references) if item.task == "segments" else item.references[0]


def perfect(benchmark: Any, root: Path, split: str = "") -> Reply:
    items = list(benchmark.items(root, split=split))

    def reply(request: Request) -> str:
        asked = [item for item in items if asks_about(request, item)]
        # A question may be the beginning of another one about the same video.
        return right_answer(max(asked, key=lambda item: len(item.question)))

    return reply
