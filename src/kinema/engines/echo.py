"""A deterministic fake that ships: no weights, no network, honest about what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kinema.engines.base import EngineSettings
from kinema.errors import MissingCapability
from kinema.families import Family
from kinema.messages import Completion, Delta, Prompt, Request, Usage

TOKENS_PER_FRAME = 4


class EchoEngine:
    """Repeats the last question and counts the frames. A word is a token, a frame is four."""

    name = "echo"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        family: Family | None = None,
        settings: EngineSettings | None = None,
        context_length: int | None = None,
    ) -> None:
        self.context_length = context_length

    def count_tokens(self, request: Request) -> int:
        """Words of the prompt and four tokens for each frame."""
        return len(request.prompt.text.split()) + _visual_tokens(request)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion per request, in order."""
        for request in requests:
            if request.params.json_schema is not None:
                raise MissingCapability(
                    "The echo follows no schema.", hint="Models on hf, vllm and openai do."
                )
            words = _answer(request)
            kept = words[: request.params.max_new_tokens]
            yield Completion(
                request.id,
                " ".join(kept),
                "stop" if len(kept) == len(words) else "length",
                Usage(self.count_tokens(request), len(kept), _visual_tokens(request)),
            )

    def stream(self, request: Request) -> Iterator[Delta]:
        """A word at a time."""
        completion = next(self.generate([request]))
        words = completion.text.split(" ")
        for i, word in enumerate(words):
            yield Delta(request.id, word if i == 0 else " " + word)
        yield Delta(request.id, "", completion)

    def close(self) -> None:
        """Nothing to give back."""


def _answer(request: Request) -> list[str]:
    question = request.conversation.messages[-1].text if request.conversation.messages else ""
    seen = [f"[{m.kind} {len(m.frames)} frames {m.frames.span}]" for m in request.media]
    return " ".join([*seen, question or request.prompt.text.replace(Prompt.GUARD, "")]).split()


def _visual_tokens(request: Request) -> int:
    return TOKENS_PER_FRAME * sum(len(m.frames) for m in request.media)
