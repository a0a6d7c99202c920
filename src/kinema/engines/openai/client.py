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

from kinema.engines.openai.body import chat_body, small_body
from kinema.engines.openai.dialect import Dialect
from kinema.engines.openai.problems import error_of, may_pass, status_of
from kinema.engines.openai.replies import Gathered, broken_off, completion_of, events, parsed
from kinema.errors import (
    AccessRefused,
    EngineUnreachable,
    ModelError,
    RequestFailed,
    RequestRefused,
)
from kinema.messages import Completion, Request

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
_MOVED = {301, 302, 307, 308}
_MOST_MOVES = 3
_ENOUGH_FAILURES = 2
_MOST_LESSONS = 4
"""Refusals from which more is learned about a server's dialect, in one call."""


@dataclass(eq=False)
class Call:
    """A request on its way to the server."""

    request: Request
    is_streamed: bool
    cancelled: threading.Event = field(default_factory=threading.Event)
    response: httpx.Response | None = None
    """The open stream of the answer."""
    has_said: bool = False
    """Pieces of its answer were handed over."""

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
        self._num_failed = 0
        """Calls at which the server failed since it last answered one."""
        self._dialect = Dialect()

    def answer(self, call: Call, write: Callable[[str], None]) -> Completion:
        """The answer; ``write`` is called with each piece of a streamed one as the server sends it.

        Raises:
            AccessRefused: the server does not accept the key (401, 402, 403).
            ModelNotFound: it has no such model, or there is no chat API (404).
            RequestRefused: it does not take this request (400, 413, 415, 422).
            EngineUnreachable: it is out of reach, busy or failing, also after several attempts,
                or breaks off in the middle.
            RequestFailed: it ends the answer with an error, calls tools instead, or answers
                something else this time.
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

        try:
            sent = self._send(body, call)
        except ModelError as problem:
            raise self._judged(problem, call) from problem
        with closing(sent) as response:
            try:
                content = self._content(call, response, note)
            except httpx.HTTPError as problem:
                raise broken_off() from problem
        if content is None:
            # A 200 with other content. From an address that never gave a completion it is the
            # address that is wrong, for every request; later it is this one answer.
            raise (RequestFailed if self._has_answered else ModelError)(
                "The server's answer is not a chat completion.",
                hint="Is --base-url that of an OpenAI-compatible server? It usually ends in /v1.",
            )
        self._has_answered, self._num_failed = True, 0
        completion = completion_of(call.request, content, began)
        first_seconds = next(iter(first), None)
        return replace(completion, first_token_seconds=first_seconds, note=self._dialect.note)

    def _content(
        self, call: Call, response: httpx.Response, write: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """A chat completion, whether it was asked for as a stream and came as one or not."""
        is_stream = "event-stream" in response.headers.get("content-type", "")
        if call.is_streamed and "json" not in response.headers.get("content-type", ""):
            return self._gathered(call, response, write)
        if is_stream:
            return self._gathered(call, response, lambda text: None)
        body = response.read()
        if body.lstrip().startswith(b"data:"):  # a stream under another name
            return self._gathered(call, response, lambda text: None)
        return parsed(body)

    def _gathered(
        self, call: Call, response: httpx.Response, write: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """A streamed answer as if it had come at once; None where no event came."""
        gathered = Gathered()
        call.response = response
        if call.cancelled.is_set():
            call.cancel()
        for event in events(response.iter_lines(), response):
            self._has_answered = True
            if text := gathered.add(event):
                write(text)
        return gathered.as_answer() if gathered.num_events else None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _judged(self, problem: ModelError, call: Call) -> ModelError:
        """Whose fault it is that a server failed at a call, or refused it for an unusual reason.

        The request's, when the server answered others and still answers a small one of the same
        kind: some moderate with 403, some fail at one picture. Else the server's or the run's.
        While it has answered nothing, failures stay open until the second one.
        """
        has_failed = isinstance(problem, EngineUnreachable) and problem.failed_at_request
        self._num_failed += has_failed
        is_known = self._has_answered or (has_failed and self._num_failed >= _ENOUGH_FAILURES)
        is_odd = has_failed or type(problem) in (ModelError, AccessRefused)
        if not is_known or not is_odd:
            return problem
        if self._answers_small(call):
            blamed = RequestFailed if has_failed else RequestRefused
            return blamed(str(problem), hint="Other requests are answered.")
        return EngineUnreachable(str(problem), hint=problem.hint) if has_failed else problem

    def _answers_small(self, call: Call) -> bool:
        """Whether the server answers a request of the same kind that asks for little."""
        body = self._dialect.written(small_body(call.request, self._model))
        try:
            response, _ = self._try(body, call)
        except ModelError:
            return False
        if response is None:
            return False
        with closing(response):
            return response.is_success

    def _send(self, body: dict[str, Any], call: Call) -> httpx.Response:
        """The server's answer, asked for again while it is busy or out of reach."""
        num_lessons = 0
        for attempt in itertools.count(1):
            response, problem = self._try(self._dialect.written(body), call)
            while response is not None and response.status_code in (400, 422):
                sent = self._dialect.written(body)
                num_lessons += 1
                if num_lessons > _MOST_LESSONS or not self._dialect.learn(response, sent):
                    break
                response.close()
                response, problem = self._try(self._dialect.written(body), call)
            status = None if response is None else _status(response, streamed=call.is_streamed)
            if response is not None and status is not None and 200 <= status < 300:
                return response
            is_passing = status is None or may_pass(status)
            if not is_passing or attempt == _ATTEMPTS or call.cancelled.is_set():
                if response is None or status is None:
                    url = self._http.base_url
                    port = url.port or (443 if url.scheme == "https" else 80)
                    connects = not isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout)
                    raise EngineUnreachable(
                        f"The server at {url.host}:{port} does not answer.",
                        hint="Is it running, and is --base-url right? It usually ends in /v1.",
                        failed_at_request=connects,
                    ) from problem
                with closing(response):
                    raise error_of(response, status, self._model, self._key_env)
            if response is not None:
                response.close()
            call.cancelled.wait(pause_seconds(attempt, response))
        raise AssertionError("the last attempt returns or raises")

    def _try(
        self, body: dict[str, Any], call: Call
    ) -> tuple[httpx.Response | None, httpx.HTTPError | None]:
        """One attempt: what the server answered, or why it did not.

        Raises:
            ModelError: it sends to another host, to which neither key nor pictures are given.
        """
        request = self._http.build_request("POST", "chat/completions", json=body)
        for _ in range(_MOST_MOVES):
            try:
                response = self._http.send(request, stream=call.is_streamed)
            except httpx.HTTPError as problem:
                return None, problem
            if response.status_code not in _MOVED or "location" not in response.headers:
                return response, None
            response.close()
            target = response.url.join(response.headers["location"])
            is_safe = target.scheme in ("https", response.url.scheme)
            if target.host != response.url.host or not is_safe:
                break
            request = self._http.build_request("POST", target, json=body)
        raise ModelError(
            f"The server at {self._http.base_url.host} sends on to {target.host}, again and again "
            "or to another host.",
            hint="Give the address that it sends to as --base-url.",
        )


def _status(response: httpx.Response, *, streamed: bool) -> int:
    """The status of an answer; an error that was sent under 200 has its own."""
    if streamed and "json" not in response.headers.get("content-type", ""):
        return response.status_code  # what it says comes later
    try:
        return status_of(response, json.loads(response.read()))
    except (ValueError, httpx.HTTPError):
        return response.status_code


def pause_seconds(attempt: int, response: httpx.Response | None) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    if asked.replace(".", "", 1).isdigit():
        return min(float(asked), _LONGEST_PAUSE_SECONDS)
    return float(min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _LONGEST_PAUSE_SECONDS))
