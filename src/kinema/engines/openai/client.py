"""One call of the chat API: sent again while the server is busy, its errors by name."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from kinema.engines.openai.body import chat_body
from kinema.engines.openai.replies import Gathered, completion_of, events, parsed, without_key
from kinema.errors import (
    AccessRefused,
    EngineUnreachable,
    ModelError,
    ModelNotFound,
    RequestFailed,
    RequestRefused,
)
from kinema.messages import Completion, Request

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
_REFUSES = {400, 413, 422}
_MAY_PASS = {408, 409, 425, 429}
"""Beside 5xx, what a server says while it is busy or not ready."""


@dataclass(eq=False)
class Call:
    """A request on its way to the server."""

    request: Request
    is_streamed: bool
    cancelled: threading.Event = field(default_factory=threading.Event)
    response: httpx.Response | None = None
    """The open stream of the answer."""

    def cancel(self) -> None:
        """Send it no more, and break a stream off; the server sees the connection end."""
        self.cancelled.set()
        if self.response is not None:
            # Closing a socket does not wake a thread that reads from it; shutting it down does.
            connection = self.response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Client:
    """Asks one model of one server. May be used by several threads at once.

    Args:
        base_url: the server's address, up to where ``chat/completions`` follows.
        key: sent in a header and shown nowhere.
        key_env: where it was read from, for errors.
        model: what the server calls the model.
    """

    def __init__(self, base_url: str, *, key: str | None, key_env: str, model: str) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=base_url.rstrip("/") + "/", headers=headers, timeout=_TIMEOUT
        )
        self._model = model
        self._key_env = key_env
        self._has_answered = False

    def answer(self, call: Call, write: Callable[[str], None]) -> Completion:
        """The answer; ``write`` is called with each piece of a streamed one as the server sends it.

        Raises:
            AccessRefused: the server does not accept the key (401, 403).
            ModelNotFound: it has no such model, or there is no chat API (404).
            RequestRefused: it does not take this request (400, 413, 422).
            EngineUnreachable: it is out of reach, busy or failing, also after several attempts,
                or breaks off in the middle.
            RequestFailed: it ends the answer with an error, or answers something else this time.
            ModelError: what answers is not a chat server.
        """
        began = time.perf_counter()
        first: list[float] = []
        body = chat_body(call.request, self._model)
        if call.is_streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}

        def note(text: str) -> None:
            first.append(time.perf_counter() - began)
            write(text)

        with closing(self._send(body, call)) as response:
            if call.is_streamed:
                content = self._gathered(call, response, note)
            else:
                content = parsed(response.content)
        if content is None:
            # A 200 with other content. From an address that never gave a completion it is the
            # address that is wrong, for every request; later it is this one answer.
            raise (RequestFailed if self._has_answered else ModelError)(
                "The server's answer is not a chat completion.",
                hint="Is --base-url that of an OpenAI-compatible server? It usually ends in /v1.",
            )
        self._has_answered = True
        completion = completion_of(call.request, content, began)
        return replace(completion, first_token_seconds=next(iter(first), None))

    def _gathered(
        self, call: Call, response: httpx.Response, write: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """A streamed answer as if it had come at once; None where no event came."""
        gathered = Gathered()
        call.response = response
        if call.cancelled.is_set():
            call.cancel()
        for event in events(response):
            self._has_answered = True
            if text := gathered.add(event):
                write(text)
        return gathered.as_answer() if gathered.num_events else None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, body: dict[str, Any], call: Call) -> httpx.Response:
        """The server's answer, asked for again while it is busy or out of reach."""
        for attempt in itertools.count(1):
            response, problem = None, None
            try:
                request = self._http.build_request("POST", "chat/completions", json=body)
                response = self._http.send(request, stream=call.is_streamed)
            except httpx.TransportError as transport:
                problem = transport
            if response is not None and response.is_success:
                return response
            may_pass = response is None or _may_pass(response.status_code)
            if not may_pass or attempt == _ATTEMPTS or call.cancelled.is_set():
                if response is None:
                    url = self._http.base_url
                    port = url.port or (443 if url.scheme == "https" else 80)
                    raise EngineUnreachable(
                        f"The server at {url.host}:{port} does not answer.",
                        hint="Is it running, and is --base-url right? It usually ends in /v1.",
                    ) from problem
                with closing(response):
                    raise _refused(response, self._model, self._key_env)
            if response is not None:
                response.close()
            call.cancelled.wait(pause_seconds(attempt, response))
        raise AssertionError("the last attempt returns or raises")


def pause_seconds(attempt: int, response: httpx.Response | None) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    if asked.replace(".", "", 1).isdigit():
        return min(float(asked), _LONGEST_PAUSE_SECONDS)
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _LONGEST_PAUSE_SECONDS))


def _may_pass(status: int) -> bool:
    return status in _MAY_PASS or status >= 500


def _refused(response: httpx.Response, model: str, key_env: str) -> ModelError:
    """The error of a status that is not success, in the server's own words where it has some."""
    status, said = response.status_code, _error_text(response)
    if status in (401, 403):
        return AccessRefused(
            f"The server refused the key ({status}).",
            hint=f"Set {key_env} to one that it accepts.",
        )
    if status == 404:
        return ModelNotFound(
            f"The server has no model {model!r}, or no chat API at this address.",
            hint="--model is the name the server uses; --base-url usually ends in /v1.",
        )
    if status in _REFUSES:
        return RequestRefused(
            f"The server refused the request ({status}): {said}",
            hint="Fewer or smaller frames help where it says the input is too long.",
        )
    if _may_pass(status):
        return EngineUnreachable(
            f"The server is busy or failing ({status}): {said}",
            hint=f"It was asked {_ATTEMPTS} times. Try again later, or lower --concurrency.",
        )
    return ModelError(
        f"The server does not answer as a chat server does ({status}): {said}",
        hint="Is --base-url right? It usually ends in /v1.",
    )


def _error_text(response: httpx.Response) -> str:
    try:
        content = json.loads(response.read())
        error = content.get("error", content)
        said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    except (ValueError, AttributeError, httpx.HTTPError):
        said = None
    return without_key(str(said or response.reason_phrase), response)[:500]
