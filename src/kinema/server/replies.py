"""Completions as OpenAI's clients read them: one object, or a stream of chunks."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from kinema.errors import KinemaError
from kinema.messages import Completion, Delta, TokenLogprob
from kinema.server.errors import EngineFailed, body_of
from kinema.types import Frames


class Reply:
    """One answer on its way to the wire.

    Args:
        request_id: of the HTTP request.
        model: what the caller called the model.
        frames: what the model is shown.
    """

    def __init__(self, request_id: str, model: str, frames: Sequence[Frames]) -> None:
        self.id = f"chatcmpl-{request_id}"
        self._model = model
        self._created = int(time.time())
        self._frames = frames

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The body of an answer that is not streamed; one choice a completion."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": done.text, "refusal": None},
                "finish_reason": done.finish_reason,
                "logprobs": _logprobs(done.logprobs),
            }
            for index, done in enumerate(completions)
        ]
        return self._head("chat.completion") | {
            "choices": choices,
            "usage": usage_of(completions),
            "kinema": self._evidence(completions),
        }

    async def chunks(
        self, deltas: AsyncIterator[Delta], indices: Mapping[str, int], *, with_usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events, ending with ``[DONE]``; an error on the way is an event as well."""
        done: dict[int, Completion] = {}
        try:
            for index in indices.values():
                yield self._chunk(index, {"role": "assistant", "content": ""})
            async for delta in deltas:
                index = indices[delta.request_id]
                if delta.text:
                    yield self._chunk(index, {"content": delta.text})
                if delta.completion is not None:
                    done[index] = checked(delta.completion)
                    said = _logprobs(delta.completion.logprobs)
                    yield self._chunk(index, {}, delta.completion.finish_reason, said)
        except KinemaError as problem:
            yield _event(body_of(problem))
            return
        completions = [done[index] for index in sorted(done)]
        if with_usage:
            ending = {"choices": [], "usage": usage_of(completions)}
            evidence = {"kinema": self._evidence(completions)}
            yield _event(self._head("chat.completion.chunk") | ending | evidence)
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

    def _evidence(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """What only kinema says: the frames that were seen, and where the time went."""
        warnings = [warning for frames in self._frames for warning in frames.warnings]
        first = [c.first_token_seconds for c in completions if c.first_token_seconds is not None]
        return {
            "frames": [frames.to_dict() for frames in self._frames],
            "warnings": list(dict.fromkeys(warnings)),
            "visual_tokens": completions[0].usage.visual_tokens,
            "seconds": round(max(c.seconds for c in completions), 4),
            "first_token_seconds": round(min(first), 4) if first else None,
        }


def checked(completion: Completion) -> Completion:
    """The completion itself.

    Raises:
        EngineFailed: it says that the engine could not answer.
    """
    if completion.error is not None:
        raise EngineFailed(completion.error, completion.error_code)
    return completion


def usage_of(completions: Sequence[Completion]) -> dict[str, Any]:
    """Tokens of a request; its prompt counts once, however many answers were asked for."""
    prompt = completions[0].usage.prompt_tokens
    said = sum(c.usage.completion_tokens for c in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }


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
