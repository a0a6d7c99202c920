"""A deterministic fake that ships: no weights, no network, honest about what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kinema.engines.base import Inbox
from kinema.engines.settings import EchoSettings
from kinema.errors import RequestRefused
from kinema.families import Family
from kinema.messages import Completion, Prompt, Request, Usage

TOKENS_PER_FRAME = 4


class EchoEngine:
    """Repeats the last question and counts the frames. A word is a token, a frame is four."""

    name = "echo"
    batch_size = 1

    def __init__(
        self,
        folder: Path | None = None,
        *,
        family: Family | None = None,
        settings: EchoSettings | None = None,
        context_length: int | None = None,
    ) -> None:
        self.context_length = context_length

    def count_tokens(self, request: Request) -> int:
        """Words of the prompt and four tokens for each frame."""
        return len(request.prompt.text.split()) + _visual_tokens(request)

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """One after the other."""
        return list(waiting[:1])

    def serve(self, inbox: Inbox) -> None:
        """Answer in order, a word at a time where the caller reads along."""
        while taken := inbox.take():
            for request in taken:
                self._answer(request, inbox)

    def release(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing to give back."""

    def _answer(self, request: Request, inbox: Inbox) -> None:
        if request.params.json_schema is not None:
            problem = RequestRefused(
                "The echo follows no schema.", hint="Models on hf, vllm and openai do."
            )
            inbox.fail(request.id, problem)
            return
        turns = request.conversation.messages
        seen = [f"[{m.kind} {len(m.frames)} frames {m.frames.span}]" for m in request.media]
        question = turns[-1].text if turns else ""
        question = question or request.prompt.text.replace(Prompt.GUARD, "")
        words = " ".join([*seen, question]).split()
        kept = words[: request.params.max_new_tokens]
        for i, word in enumerate(kept if inbox.is_streamed(request.id) else ()):
            inbox.write(request.id, word if i == 0 else " " + word)
        inbox.complete(
            Completion(
                request.id,
                " ".join(kept),
                "stop" if len(kept) == len(words) else "length",
                Usage(self.count_tokens(request), len(kept), _visual_tokens(request)),
            )
        )


def _visual_tokens(request: Request) -> int:
    return TOKENS_PER_FRAME * sum(len(m.frames) for m in request.media)
