"""An engine that fails where a test tells it to, and the model that opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from kinema.engines import Engine, EngineSettings, Inbox
from kinema.engines.echo import EchoEngine
from kinema.messages import Request
from kinema.tasks.models import Model, find_model

Before = Callable[[Sequence[Request]], None]
"""Called with each batch before it is answered; raises what happens to the engine."""


class FaultyEngine(EchoEngine):
    """The echo in batches of four."""

    batch_size = 4

    def __init__(self, before: Before, *, context_length: int | None = None) -> None:
        super().__init__(context_length=context_length)
        self._before = before

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        return list(waiting[: self.batch_size])

    def serve(self, inbox: Inbox) -> None:
        while taken := inbox.take():
            self._before(taken)
            for request in taken:
                self._answer(request, inbox)


@dataclass(frozen=True)
class _FaultyModel(Model):
    make: Callable[[], Engine] = EchoEngine

    def open(self, settings: EngineSettings) -> Engine:
        return self.make()


def faulty_model(make: Callable[[], Engine]) -> Model:
    """The echo model, opened by ``make``."""
    echo = find_model("echo")
    return _FaultyModel(**{f.name: getattr(echo, f.name) for f in fields(Model)}, make=make)
