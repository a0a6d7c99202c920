"""A server of ours on a free port of this machine, and clients for it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from kinema.engines import Engine, EngineSettings, Inbox
from kinema.engines.echo import EchoEngine
from kinema.engines.scheduler import Scheduler
from kinema.engines.settings import engines_with
from kinema.messages import Completion, Request
from kinema.server.app import create_app
from kinema.server.backend import Backend
from kinema.server.limits import ServerSettings
from kinema.server.service import Service
from kinema.tasks.models import Model, find_model
from support.clips import EXAMPLE

_NAME = "served_model_name"


@dataclass
class Running:
    """A server that listens."""

    url: str
    service: Service
    client: openai.OpenAI
    """OpenAI's own, which does not try again by itself."""

    def post(self, body: Any, **more: Any) -> httpx.Response:
        """A chat request as it stands."""
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60, **more)


def scheduler_over(
    open_engine: Callable[[], Engine], model: Model | None = None, **more: Any
) -> Scheduler:
    """A scheduler over an engine of a test's own."""
    model = model or find_model("echo")
    return Scheduler(open_engine, family=model.family, checkpoint=model.checkpoint, **more)


@contextmanager
def serving(
    model: str = "echo",
    engine: Engine | Callable[[], Engine] | None = None,
    *,
    more: Sequence[Backend] = (),
    **settings: Any,
) -> Iterator[Running]:
    """Serve until the block ends; what is under way then is finished.

    Args:
        model: what to serve.
        engine: runs it, or opens what runs it; the model's own when None.
        more: other models.
    """
    found = find_model(model)
    allowed = ServerSettings(port=0, **settings)
    if engine is None:
        runs_here = found.engine in engines_with("device")
        scheduler = found.scheduler(EngineSettings(device="cpu" if runs_here else "auto"))
    else:
        scheduler = scheduler_over(engine if callable(engine) else lambda: engine, found)
    opened = Backend(found, scheduler, name=settings.get(_NAME))
    service = Service([opened, *more], allowed)
    config = uvicorn.Config(
        create_app(service), port=0, log_level="error", timeout_graceful_shutdown=20
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        key = allowed.api_key or "none"
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            yield Running(url, service, client)
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def data_address(path: Path = EXAMPLE, kind: str = "video/mp4") -> str:
    """A file as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def asked(*parts: dict[str, Any], words: str = "What happens?", **fields: Any) -> dict[str, Any]:
    """The body of a chat request about some parts."""
    content = [*parts, {"type": "text", "text": words}]
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}


def video(url: str, **sampling: Any) -> dict[str, Any]:
    """A ``video_url`` part."""
    return {"type": "video_url", "video_url": {"url": url}, **sampling}


class Dripping(EchoEngine):
    """Says a word for each permit; remembers what was stopped before its end."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)
        self.begun = threading.Event()
        self.stopped: list[str] = []

    def _answer(self, request: Request, inbox: Inbox) -> None:
        try:
            super()._answer(request, _DrippingInbox(inbox, self))
        except _Stopped:
            self.stopped.append(request.id)


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class _DrippingInbox:
    """Lets each word and the end of an answer through when there is a permit for it."""

    def __init__(self, inbox: Inbox, engine: Dripping) -> None:
        self._inbox = inbox
        self._engine = engine

    def is_streamed(self, request_id: str) -> bool:
        return True

    def write(self, request_id: str, text: str) -> None:
        self._wait(request_id)
        self._inbox.write(request_id, text)

    def complete(self, completion: Completion) -> None:
        self._wait(completion.request_id)
        self._inbox.complete(completion)

    def _wait(self, request_id: str) -> None:
        self._engine.begun.set()
        while not self._engine.permits.acquire(timeout=0.05):
            if self._inbox.is_cancelled(request_id):
                raise _Stopped
