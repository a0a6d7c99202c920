"""Completions as OpenAI's clients read them: one object, or a stream of chunks."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from kinema.engines.job import Answered
from kinema.errors import KinemaError
from kinema.messages import Completion, TokenLogprob
from kinema.server.backend import Piece, frames_of
from kinema.server.errors import body_of


class Reply:
    """One answer on its way to the wire.

    Args:
        request_id: of the HTTP request.
        model: what the caller called the model.
    """

    def __init__(self, request_id: str, model: str) -> None:
        self.id = f"chatcmpl-{request_id}"
        self._model = model
        self._created = int(time.time())

    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """The body of an answer that is not streamed; one choice for each of ``answers``."""
        choices = [
            {
                "index": index,
                "message": _message(answered.completion),
                "finish_reason": _finish(answered.completion),
                "logprobs": _logprobs(answered.completion.logprobs),
            }
            for index, answered in enumerate(answers)
        ]
        return self._head("chat.completion") | _totals(answers, choices)

    async def chunks(
        self, pieces: AsyncIterator[Piece], n: int, *, with_usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events, ending with ``[DONE]``; an error on the way is an event as well.

        Args:
            pieces: of ``n`` answers, mixed.
            n: how many answers there will be.
            with_usage: say at the end what it cost and what was shown.
        """
        done: dict[int, Answered] = {}
        try:
            for index in range(n):
                yield self._chunk(index, {"role": "assistant", "content": ""})
            async for piece in pieces:
                if piece.text:
                    yield self._chunk(piece.index, {"content": piece.text})
                if piece.answered is not None:
                    done[piece.index] = piece.answered
                    completion = piece.answered.completion
                    said = _logprobs(completion.logprobs)
                    last = _reasoning(completion)
                    yield self._chunk(piece.index, last, _finish(completion), said)
        except KinemaError as problem:
            yield _event(body_of(problem))
            return
        if with_usage:
            totals = _totals([done[index] for index in range(n)], [])
            yield _event(self._head("chat.completion.chunk") | totals)
        yield "data: [DONE]\n\n"

    def _chunk(
        self,
        index: int,
        delta: dict[str, str],
        finish_reason: str | None = None,
        logprobs: Any = None,
    ) -> str:
        choice = {
            "index": index,
            "delta": delta,
            "finish_reason": finish_reason,
            "logprobs": logprobs,
        }
        return _event(self._head("chat.completion.chunk") | {"choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self._created, "model": self._model}


def _totals(answers: Sequence[Answered], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Choices, what they cost, and what only kinema says: what was seen, where the time went."""
    completions = [answered.completion for answered in answers]
    frames = frames_of(answers[0].request.conversation)
    warnings = [warning for shown in frames for warning in shown.warnings]
    notes = [answers[0].note] if answers[0].note else []
    # The prompt counts once, however many answers were asked for.
    prompt = completions[0].usage.prompt_tokens
    said = sum(c.usage.completion_tokens for c in completions)
    first = [c.first_token_seconds for c in completions if c.first_token_seconds is not None]
    return {
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
        },
        "kinema": {
            "frames": [shown.to_dict() for shown in frames],
            "warnings": list(dict.fromkeys([*warnings, *notes])),
            "visual_tokens": completions[0].usage.visual_tokens,
            "seconds": round(max(c.seconds for c in completions), 4),
            "first_token_seconds": round(min(first), 4) if first else None,
        },
    }


def _message(completion: Completion) -> dict[str, str | None]:
    """The assistant's turn; a refusal stands in a field of its own, as in OpenAI's API."""
    refused = completion.finish_reason == "refusal"
    return {
        "role": "assistant",
        "content": None if refused else completion.text,
        "refusal": completion.text if refused else None,
    } | _reasoning(completion)


def _finish(completion: Completion) -> str:
    refused = completion.finish_reason == "refusal"
    return "content_filter" if refused else completion.finish_reason


def _reasoning(completion: Completion) -> dict[str, str]:
    """What the model thought, in the field that DeepSeek's API and vLLM's server have for it."""
    return {"reasoning_content": completion.reasoning} if completion.reasoning else {}


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    content = [
        _token(t.token, t.logprob) | {"top_logprobs": [_token(*pair) for pair in t.alternatives]}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    # JSON has no -inf; OpenAI writes -9999.0 for a token that is all but impossible.
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
