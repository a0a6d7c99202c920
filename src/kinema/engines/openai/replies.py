"""What a server answers: whole, or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from kinema.errors import EngineUnreachable, RequestFailed
from kinema.messages import Completion, Request, SamplingParams, TokenLogprob, Usage

_NO_ANSWER = ("abort", "error", "content_filter")
"""Reasons to finish that leave less than the model's answer."""


def parsed(body: bytes) -> dict[str, Any] | None:
    """A chat completion, or None when the body is something else."""
    try:
        answer = json.loads(body)
        answer["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return dict(answer)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON events of a server-sent stream.

    Raises:
        EngineUnreachable: the connection breaks off.
        RequestFailed: the server ends the stream with an error.
    """
    try:
        for line in response.iter_lines():
            payload = line.removeprefix("data:").strip()
            if not line.startswith("data:"):
                continue
            if payload == "[DONE]":
                # Some servers give no other sign that the answer is whole.
                yield {"choices": [{"finish_reason": "stop"}]}
                return
            event = json.loads(payload)
            if "error" in event:
                said = without_key(str(event["error"]), response)
                raise RequestFailed(f"The server ended the answer: {said[:500]}")
            yield event
    except (httpx.TransportError, ValueError) as problem:
        raise _broken_off() from problem


class Gathered:
    """A streamed answer put together again."""

    def __init__(self) -> None:
        self.num_events = 0
        self._text: list[str] = []
        self._logprobs: list[Any] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}

    def add(self, event: dict[str, Any]) -> str:
        """Take one event in; returns its text."""
        self.num_events += 1
        self._usage = event.get("usage") or self._usage
        choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
        self._finish = self._finish or choice.get("finish_reason")
        self._logprobs += (choice.get("logprobs") or {}).get("content") or []
        text = (choice.get("delta") or {}).get("content") or ""
        self._text.append(text)
        return text

    def as_answer(self) -> dict[str, Any]:
        """The same answer as a server gives unstreamed.

        Raises:
            EngineUnreachable: the stream ended before the answer did.
        """
        if self._finish is None:
            raise _broken_off()
        choice = {
            "message": {"content": "".join(self._text)},
            "finish_reason": self._finish,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
        }
        return {"choices": [choice], "usage": self._usage}


def _broken_off() -> EngineUnreachable:
    return EngineUnreachable("The server broke off in the middle of its answer.", hint="Ask again.")


def without_key(text: str, response: httpx.Response) -> str:
    """The text, where a server repeats the key that it was sent, without it."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    return text.replace(key, "(the key)") if key else text


def completion_of(request: Request, answer: dict[str, Any], began: float) -> Completion:
    """The answer in our words.

    Args:
        began: when it was asked, by ``time.perf_counter``.

    Raises:
        RequestFailed: the server gave up in the middle of it.
    """
    choice = answer["choices"][0]
    usage = answer.get("usage") or {}
    if choice.get("finish_reason") in _NO_ANSWER:
        raise RequestFailed(f"The server ended the answer: {choice['finish_reason']}.")
    return Completion(
        request_id=request.id,
        text=(choice["message"].get("content") or "").strip(),
        finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
        usage=Usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)),
        logprobs=_logprobs(choice, request.params),
        seconds=time.perf_counter() - began,
    )


def _logprobs(choice: dict[str, Any], params: SamplingParams) -> tuple[TokenLogprob, ...] | None:
    content = (choice.get("logprobs") or {}).get("content")
    if params.logprobs is None or content is None:
        return None
    return tuple(
        TokenLogprob(
            token["token"],
            token["logprob"],
            tuple((t["token"], t["logprob"]) for t in token.get("top_logprobs") or ()),
        )
        for token in content
    )
