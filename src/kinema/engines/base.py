"""How the program meets a backend: small protocols over shared values.

An engine is blind. It never opens a file, chooses a time or knows a chat template; it gets
requests whose frames are decoded and whose prompt is rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from kinema.messages import Completion, Delta, Request

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How weights are loaded."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    dtype: DType = "auto"
    """Number format of the weights; auto keeps the checkpoint's own."""
    mesh: str = "1,1,-1,1"
    """Engine lwm: devices as dp,fsdp,tp,sp; -1 takes what is left, ! in front keeps their order."""


class Engine(Protocol):
    """What every engine has."""

    name: str
    context_length: int | None
    """Tokens for prompt and answer together; None when the engine has no limit."""

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of a request, words and pictures, without running the model."""
        ...

    def close(self) -> None:
        """Give memory, threads and processes back."""
        ...


@runtime_checkable
class Generates(Engine, Protocol):
    """Answers requests."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order they get ready, each with its request's id."""
        ...


@runtime_checkable
class Streams(Engine, Protocol):
    """Answers one request piece by piece."""

    def stream(self, request: Request) -> Iterator[Delta]:
        """Pieces of the answer; the last one carries the completion.

        Closing the iterator early stops the model.
        """
        ...
