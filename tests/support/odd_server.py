"""Servers with the OpenAI chat API as they are met: each answers in one odd way.

An :class:`Oddity` is what the server sends for a whole answer and for a streamed one. Forms were
taken from what vLLM, SGLang, llama.cpp, Ollama, OpenRouter, Mistral, DeepSeek, Azure and OpenAI's
reasoning models are known to send.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """One response."""

    body: Any = None
    """JSON, bytes as they are, or a list of what goes down a stream: events, or lines."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Body, str], Sent]
"""From a request's body and path to what is sent."""


def message(content: Any, finish: str | None = "stop", **others: Any) -> Sent:
    """A chat completion."""
    said = {"role": "assistant", "content": content} | others
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    return Sent({"object": "chat.completion", "choices": [choice], "usage": usage})


def chunk(finish: str | None = None, **delta: Any) -> Body:
    """An event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def stream(*events: Body | str) -> Sent:
    """Events, then the sign that it is over."""
    return Sent([*events, "data: [DONE]\n\n"])


class OddServer:
    """Runs in threads of the test until the context is left."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[Body] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet a response

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                sent = answer(body, self.path)
                lines = sent.body if isinstance(sent.body, list) else None
                raw = b"".join(map(_line, lines)) if lines else _whole(sent.body)
                kind = "text/event-stream" if lines else "application/json"
                self.send_response(sent.status)
                for name, value in ({"Content-Type": kind} | sent.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _line(event: Body | str) -> bytes:
    return (event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n").encode()


def _whole(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def either(whole: Sent, streamed: Sent | None = None) -> Answer:
    """The same answer to every request, as one piece or as a stream."""
    return lambda body, _: streamed if streamed and body.get("stream") else whole


def refused(said: Any, status: int = 400) -> Sent:
    """A status that is not success, with a body."""
    return Sent(said, status)


def openai_error(text: str, status: int = 400, **others: Any) -> Sent:
    """A refusal in OpenAI's schema."""
    return refused({"error": {"message": text, "type": "invalid_request_error"} | others}, status)


def reasoning_model(body: Body, _: str) -> Sent:
    """Takes ``max_completion_tokens`` and no temperature, as OpenAI's o-series."""
    if "max_tokens" in body:
        return openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            param="max_tokens",
        )
    for name in ("temperature", "top_p"):
        if name in body:
            return openai_error(
                f"Unsupported value: '{name}' does not support {body[name]} with this model. Only "
                "the default (1) value is supported.",
                param=name,
            )
    whole = message("A cat.")
    return stream(chunk(content="A cat."), chunk("stop")) if body.get("stream") else whole


def strict_stream(body: Body, _: str) -> Sent:
    """Does not know ``stream_options``."""
    if "stream_options" in body:
        return openai_error("Unrecognized request argument supplied: stream_options")
    return stream(chunk(content="A cat."), chunk("stop"))


def moved(to: Callable[[str], str], status: int = 307) -> Answer:
    """Sends on to another path."""

    def answer(body: Body, path: str) -> Sent:
        if path.startswith("/v1/"):
            return Sent(b"", status, {"Location": to(path)})
        return message("A cat.")

    return answer


def failing_at(word: str, status: int = 500) -> Answer:
    """Fails whenever a word stands in the last message, and answers everything else."""

    def answer(body: Body, _: str) -> Sent:
        said = json.dumps(body["messages"][-1])
        return refused({"error": "internal"}, status) if word in said else message("A cat.")

    return answer


def thinking(*texts: str) -> Sequence[Body]:
    """Mistral's parts of a thought."""
    return [{"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts]}]
