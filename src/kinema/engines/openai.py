"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, Ollama.

The conversation travels as chat messages; the frames of a video travel as images, each behind its
time, because that is what every such server understands.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.chat_json import image_part, text_part, write_message, write_params
from kinema.engines.base import EngineSettings, failed
from kinema.errors import ModelError, ModelNotFound, UsageError
from kinema.families import Family
from kinema.messages import (
    Completion,
    Delta,
    ImagePart,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    TokenLogprob,
    Usage,
    VideoPart,
)
from kinema.prompt import frame_label
from kinema.types import Frames

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
_TRY_AGAIN = {408, 409, 429, 500, 502, 503, 504}


class OpenAIEngine:
    """Asks a server. The key comes from ``OPENAI_API_KEY`` and goes nowhere but its header.

    Args:
        folder: not used; the server has the weights.
        family: the row for models behind a server.
        settings: ``base_url``, ``served_model`` and ``concurrency``.

    Raises:
        UsageError: no server was named.
    """

    name = "openai"
    context_length: int | None = None
    """Known to the server alone, which refuses what is too long."""

    def __init__(self, folder: Path | None, *, family: Family, settings: EngineSettings) -> None:
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if not base_url:
            raise UsageError(
                "The engine openai needs the address of a server.",
                hint="Give --base-url http://localhost:8000/v1, or set OPENAI_BASE_URL.",
            )
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            base_url=base_url.rstrip("/") + "/", headers=headers, timeout=_TIMEOUT
        )
        self._model = settings.served_model or family.example
        self._concurrency = settings.concurrency

    def count_tokens(self, request: Request) -> int:
        """Zero: only the server can tell, and it does in the completion's usage."""
        return 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they arrive, ``concurrency`` requests on their way at once.

        A request that the server refuses gets a completion that says so; the rest go on.
        """
        coming = iter(requests)
        with ThreadPoolExecutor(self._concurrency, "kinema-openai") as pool:
            running: set[Future[Completion]] = set()
            try:
                while True:
                    room = itertools.islice(coming, self._concurrency - len(running))
                    running |= {pool.submit(self._answer, request) for request in room}
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def stream(self, request: Request) -> Iterator[Delta]:
        """Text as the server sends it; the last delta carries the completion."""
        began = time.perf_counter()
        body = self._body(request) | {"stream": True, "stream_options": {"include_usage": True}}
        gathered = _Gathered()
        first: float | None = None
        with closing(self._send(body, stream=True)) as response:
            for event in _events(response):
                if text := gathered.add(event):
                    first = first or time.perf_counter() - began
                    yield Delta(request.id, text)
        completion = _completion(request, gathered.as_answer(), began)
        yield Delta(request.id, "", replace(completion, first_token_seconds=first))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, request: Request) -> Completion:
        began = time.perf_counter()
        try:
            with closing(self._send(self._body(request))) as response:
                answer = _parsed(response.read())
            return _completion(request, answer, began)
        except ModelError as problem:
            return failed(request, problem)

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [_message(message) for message in request.conversation.messages]
        return {"model": self._model, "messages": messages} | write_params(request.params)

    def _send(self, body: dict[str, Any], *, stream: bool = False) -> httpx.Response:
        """The server's answer, asked for again while it is busy or out of reach."""
        for attempt in itertools.count(1):
            try:
                request = self._client.build_request("POST", "chat/completions", json=body)
                response = self._client.send(request, stream=stream)
            except httpx.TransportError as problem:
                if attempt == _ATTEMPTS:
                    raise _unreachable(self._client) from problem
                response = None
            if response is not None and response.is_success:
                return response
            if response is not None and (
                attempt == _ATTEMPTS or response.status_code not in _TRY_AGAIN
            ):
                raise _refused(response, self._model)
            time.sleep(_pause(attempt, response))
            if response is not None:
                response.close()
        raise AssertionError("the last attempt returns or raises")


def _pause(attempt: int, response: httpx.Response | None) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    if asked.replace(".", "", 1).isdigit():
        return min(float(asked), _LONGEST_PAUSE_SECONDS)
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _LONGEST_PAUSE_SECONDS))


def _unreachable(client: httpx.Client) -> ModelError:
    return ModelError(
        f"The server at {client.base_url.host}:{client.base_url.port or 443} does not answer.",
        hint="Is it running, and is --base-url right? It usually ends in /v1.",
    )


def _refused(response: httpx.Response, model: str) -> ModelError:
    said = _error_text(response)
    response.close()
    if response.status_code in (401, 403):
        return ModelError(
            f"The server refused the key ({response.status_code}).",
            hint="Set OPENAI_API_KEY to one that it accepts.",
        )
    if response.status_code == 404:
        return ModelNotFound(
            f"The server has no model {model!r}, or no chat API at this address.",
            hint="--model is the name the server uses; --base-url usually ends in /v1.",
        )
    return ModelError(
        f"The server refused the request ({response.status_code}): {said}",
        hint="Fewer or smaller frames help where it says the input is too long.",
    )


def _error_text(response: httpx.Response) -> str:
    try:
        content = json.loads(response.read())
        error = content.get("error", content)
        said = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError, httpx.HTTPError):
        said = None
    return _without_key(str(said or response.reason_phrase), response)[:500]


def _without_key(text: str, response: httpx.Response) -> str:
    """A server may repeat the key it was sent."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    return text.replace(key, "(the key)") if key else text


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
        answer["choices"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError) as problem:
        raise ModelError(
            "The server's answer is no chat completion.",
            hint="Is --base-url that of an OpenAI-compatible server? It usually ends in /v1.",
        ) from problem
    return dict(answer)


def _message(message: Message) -> dict[str, Any]:
    words_alone = all(isinstance(part, TextPart) for part in message.parts)
    return write_message(message, _content, as_text=words_alone)


def _content(part: Part) -> Iterator[dict[str, Any]]:
    if isinstance(part, VideoPart) and isinstance(part.source, Frames):
        for seconds, pixels in part.source:
            yield text_part(frame_label(seconds))
            yield _image(pixels)
    elif isinstance(part, ImagePart) and isinstance(part.source, Frames):
        yield _image(part.source.pixels[0])


def _image(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    data = base64.b64encode(buffer.getvalue()).decode()
    return image_part(f"data:image/jpeg;base64,{data}")


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON events of a server-sent stream.

    Raises:
        ModelError: the server ends the stream with an error, or breaks it off.
    """
    try:
        for line in response.iter_lines():
            payload = line.removeprefix("data:").strip()
            if not line.startswith("data:") or payload == "[DONE]":
                continue
            event = json.loads(payload)
            if "error" in event:
                said = _without_key(str(event["error"]), response)
                raise ModelError(f"The server ended the answer: {said[:500]}")
            yield event
    except (httpx.TransportError, ValueError) as problem:
        raise ModelError(
            "The server broke off in the middle of its answer.", hint="Ask again."
        ) from problem


class _Gathered:
    """A streamed answer put together again."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._logprobs: list[Any] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}

    def add(self, event: dict[str, Any]) -> str:
        """Take one event in; returns its text."""
        self._usage = event.get("usage") or self._usage
        choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
        self._finish = choice.get("finish_reason") or self._finish
        self._logprobs += (choice.get("logprobs") or {}).get("content") or []
        text = (choice.get("delta") or {}).get("content") or ""
        self._text.append(text)
        return text

    def as_answer(self) -> dict[str, Any]:
        """The same answer as a server gives unstreamed."""
        choice = {
            "message": {"content": "".join(self._text)},
            "finish_reason": self._finish,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
        }
        return {"choices": [choice], "usage": self._usage}


def _completion(request: Request, answer: dict[str, Any], began: float) -> Completion:
    choice = answer["choices"][0]
    usage = answer.get("usage") or {}
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
