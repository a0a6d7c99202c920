"""What a server answers: whole, or as server-sent events.

Servers differ in small ways: content as a list of parts, null where a text is meant, an error under
status 200, a stream that was not asked for. What there is to read is read here, and what is no
answer is told from it by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from kinema.engines.openai.problems import error_event
from kinema.errors import EngineUnreachable, RequestFailed
from kinema.messages import (
    Completion,
    FinishReason,
    Request,
    SamplingParams,
    TokenLogprob,
    Usage,
)

_FINISHED: Mapping[str | None, FinishReason] = {
    # A whole answer without a reason is whole; some servers give none.
    **dict.fromkeys((None, "", "stop", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("STOP", "tool_calls", "function_call"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "MAX_TOKENS"), "length"),
    **dict.fromkeys(("content_filter", "refusal", "SAFETY", "PROHIBITED_CONTENT"), "refusal"),
}
"""Reasons to finish that leave an answer. Any other ("abort", "error") leaves less than one."""


def parsed(body: bytes) -> dict[str, Any] | None:
    """A chat completion, or None when the body is something else."""
    try:
        answer = json.loads(body)
        answer["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return dict(answer)


def events(lines: Iterable[str], response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON events of a server-sent stream.

    Args:
        lines: of the stream.
        response: which they came with.

    Raises:
        EngineUnreachable: the connection breaks off, or the server says that it failed (5xx).
        RequestFailed: the server ends the stream with another error.
    """
    try:
        for line in lines:
            name, _, payload = line.partition(":")
            payload = payload.strip()
            if name not in ("data", "error") or not payload:
                continue  # comments, names of events, signs of life
            if payload == "[DONE]":
                # Some servers give no other sign that the answer is whole.
                yield {"choices": [{"finish_reason": "stop"}]}
                return
            event = json.loads(payload)
            error = event if name == "error" else event.get("error")
            if error:
                raise error_event(error, response)
            yield event
    except (httpx.HTTPError, ValueError, AttributeError) as problem:
        raise broken_off() from problem


class Gathered:
    """A streamed answer put together again."""

    def __init__(self) -> None:
        self.num_events = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._logprobs: list[Any] = []
        self._calls_tools = self._has_message = False
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}

    def add(self, event: dict[str, Any]) -> str:
        """Take one event in; returns its text."""
        self.num_events += 1
        self._usage = event.get("usage") or self._usage
        choices: list[Any] = event.get("choices") or []
        choice: dict[str, Any] = (choices and choices[0]) or {}
        self._finish = self._finish or choice.get("finish_reason")
        self._logprobs += (choice.get("logprobs") or {}).get("content") or []
        delta = choice.get("delta")
        if not delta and not any(self._text):
            delta = choice.get("message", delta)  # a server that says it all in one event
        self._has_message |= delta is not None
        delta = delta or {}
        text, reasoning = _words(delta)
        self._text.append(text)
        self._reasoning.append(reasoning)
        self._refusal.append(delta.get("refusal") or "")
        self._calls_tools |= bool(delta.get("tool_calls") or delta.get("function_call"))
        return text

    def as_answer(self) -> dict[str, Any]:
        """The same answer as a server gives unstreamed.

        Raises:
            EngineUnreachable: the stream ended before the answer did.
        """
        if self._finish is None:
            raise broken_off()
        message = {
            "content": "".join(self._text),
            "reasoning_content": "".join(self._reasoning),
            "refusal": "".join(self._refusal),
            "tool_calls": self._calls_tools,
        }
        choice = {
            "message": message if self._has_message else None,
            "finish_reason": self._finish,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
        }
        return {"choices": [choice], "usage": self._usage}


def broken_off() -> EngineUnreachable:
    """The error of a connection that ends before the answer does."""
    return EngineUnreachable("The server broke off in the middle of its answer.", hint="Ask again.")


def completion_of(request: Request, answer: dict[str, Any], began: float) -> Completion:
    """The answer in our words. A refusal is an answer, with a finish reason of its own.

    Args:
        began: when it was asked, by ``time.perf_counter``.

    Raises:
        RequestFailed: the server gave up in the middle of it, or called tools instead.
    """
    choice = answer["choices"][0]
    message = choice["message"] or {}
    usage = answer.get("usage") or {}
    reason = choice.get("finish_reason")
    if reason not in _FINISHED:
        raise RequestFailed(f"The server ended the answer: {reason}.")
    text, reasoning = _words(message)
    refusal = _text_of(message.get("refusal"))
    finish: FinishReason = "refusal" if refusal else _FINISHED[reason]
    if choice["message"] is None and finish != "refusal":
        raise RequestFailed("The server's answer holds no message.")
    if not (text or refusal) and (message.get("tool_calls") or message.get("function_call")):
        raise RequestFailed(
            "The server called tools instead of answering.",
            hint="Serve the model without automatic tool choice.",
        )
    return Completion(
        request_id=request.id,
        text=(refusal or text).strip(),
        finish_reason=finish,
        usage=Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0),
        logprobs=_logprobs(choice, request.params),
        seconds=time.perf_counter() - began,
        reasoning=reasoning.strip(),
    )


def _words(message: Mapping[str, Any]) -> tuple[str, str]:
    """What a message, or a piece of one, says and what it thinks.

    Reasoning stands in ``reasoning_content`` (DeepSeek, vLLM, SGLang), in ``reasoning`` (newer
    vLLM, OpenRouter, Ollama), or in parts of type "thinking" (Mistral, Anthropic).
    """
    thoughts = [_text_of(message.get("reasoning_content") or message.get("reasoning"))]
    content = message.get("content")
    if not isinstance(content, list):
        return _text_of(content), thoughts[0]
    said: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        is_thought = kind in ("thinking", "reasoning", "thought")
        (thoughts if is_thought else said).append(_text_of(part))
    return "".join(said), "".join(thoughts)


def _text_of(value: Any) -> str:
    """The words of a text, of a part, or of a list of parts; pictures and null have none."""
    if isinstance(value, list):
        return "".join(map(_text_of, value))
    if isinstance(value, Mapping):
        fields = ("text", "thinking", "reasoning", "content", "summary")
        return next((_text_of(value[name]) for name in fields if value.get(name)), "")
    return value if isinstance(value, str) else ""


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
