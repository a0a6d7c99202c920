"""A chat server in a process of its own, that does what the question tells it to.

Run as ``python chat_server.py``: prints its port, then answers ``/v1/chat/completions``. The
last user message is a command, everything else is answered with what was received:

- ``busy N``: 503 N times first; ``limit N``: 429 N times first, both with ``Retry-After``
- ``fail N``: 500 N times first
- ``refuse`` (400), ``large`` (413), ``misfit`` (422), ``teapot`` (418)
- ``repeat the key``: 400, with the key in it
- ``slow``, ``hold`` (until ``/release`` is asked for)
- ``garbage`` (JSON of another kind), ``aborted`` (a finish reason that is no end)
- ``break`` (a stream without its end), ``shut`` (a stream that ends too early, neatly)
- ``trouble`` (a stream with an error in it), ``forever`` (a stream that never ends)

``/state`` says how many calls run, ran at most at once, and which streams were left by the client.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test"
_REFUSALS = {
    "refuse": (400, {"error": {"message": "the prompt is too long"}}),
    "large": (413, {"error": {"message": "the body is too large"}}),
    "misfit": (422, {"detail": "top_k is not known"}),
    "teapot": (418, {"error": "short and stout"}),
}
_PASSING = {"busy": 503, "limit": 429, "fail": 500}
_asked: dict[str, int] = {}
_at_once = {"now": 0, "most": 0}
_left: list[str] = []
_released = threading.Event()
_lock = threading.Lock()


def _said(command: str, parts: list[dict[str, Any]]) -> str:
    if command.startswith("slow"):
        time.sleep(0.2)
    if command.startswith("hold"):
        _released.wait(20)
    images = [part for part in parts if part["type"] == "image_url"]
    labels = " ".join(part["text"] for part in parts[:-1] if part["type"] == "text")
    return f"{command} | {len(images)} images | {labels} | {_at_once['most']} at once"


def _completion(body: dict[str, Any], command: str, parts: list[dict[str, Any]]) -> Any:
    if command == "garbage":
        return {"hello": "there"}
    finish = "abort" if command == "aborted" else "stop"
    choice = {"message": {"content": _said(command, parts)}, "finish_reason": finish}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/release":
            _released.set()
        with _lock:
            self._json(200, {"now": _at_once["now"], "most": _at_once["most"], "left": _left})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with _lock:
            _at_once["now"] += 1
            _at_once["most"] = max(_at_once.values())
        try:
            self._answer(body)
        finally:
            with _lock:
                _at_once["now"] -= 1

    def _answer(self, body: dict[str, Any]) -> None:
        content = body["messages"][-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        command = [part["text"] for part in parts if part["type"] == "text"][-1]
        refused = self._refusal(body, command)
        if refused is not None:
            self._json(*refused)
        elif body.get("stream"):
            self._stream(_said(command, parts), command)
        else:
            self._json(200, _completion(body, command, parts))

    def _refusal(self, body: dict[str, Any], command: str) -> tuple[int, Any] | None:
        with _lock:
            _asked[command] = _asked.get(command, 0) + 1
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return 401, {"error": {"message": "bad key"}}
        if body["model"] != "known":
            return 404, {"error": {"message": "no such model"}}
        kind, _, times = command.partition(" ")
        if kind in _PASSING and _asked[command] <= int(times):
            return _PASSING[kind], {"error": "busy"}
        if command == "repeat the key":
            return 400, {"error": {"message": f"{self.headers['Authorization']} is out of money"}}
        return _REFUSALS.get(command)

    def _json(self, status: int, content: Any) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        if status in (429, 503):
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, said: str, command: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Connection", "close")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in said.split(" "):
            self._chunk({"choices": [{"delta": {"content": word + " "}}]})
            if command == "break":
                return
        if command == "forever":
            self._go_on(command)
        if command == "trouble":
            self._chunk({"error": {"message": "out of memory"}})
        if command != "shut":
            self._chunk({"choices": [{"delta": {}, "finish_reason": "length"}]})
            self._chunk({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
            self._raw(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _go_on(self, command: str) -> None:
        """Until the client leaves. It is quiet, so a client notices nothing unless it looks."""
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":
            with _lock:
                _left.append(command)

    def _chunk(self, event: dict[str, Any]) -> None:
        self._raw(f"data: {json.dumps(event)}\n\n".encode())

    def _raw(self, raw: bytes) -> None:
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
