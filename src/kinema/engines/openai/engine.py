"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, Ollama.

The conversation travels as chat messages; the frames of a video travel as images, each behind its
time, because that is what every such server understands.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kinema.engines.base import Inbox
from kinema.engines.openai.client import Call, Client
from kinema.engines.settings import OpenAISettings
from kinema.errors import KinemaError, UsageError
from kinema.families import Family
from kinema.messages import Completion, Request

_LOOK_AGAIN_SECONDS = 0.05
"""How long new requests may wait before those join that there is room for."""

_News = tuple[Call, str | Completion | Exception]
"""What a thread of the pool says of a call: a piece of its answer, or how it ended."""


class OpenAIEngine:
    """Asks a server. The key comes from the environment and goes nowhere but its header.

    Args:
        folder: not used; the server has the weights.
        family: the row for models behind a server.
        settings: ``base_url``, ``served_model``, ``api_key_env`` and ``concurrency``.

    Raises:
        UsageError: no server was named.
    """

    name = "openai"
    context_length: int | None = None
    """Known to the server alone, which refuses what is too long."""
    batch_size: int | None = None
    """New requests may join those that are on their way."""

    def __init__(self, folder: Path | None, *, family: Family, settings: OpenAISettings) -> None:
        base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
        if not base_url:
            raise UsageError(
                "The engine openai needs the address of a server.",
                hint="Give --base-url http://localhost:8000/v1, or set OPENAI_BASE_URL.",
            )
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(
                f"--base-url is {base_url}; it must begin with http:// or https://.",
                hint="It usually ends in /v1: http://localhost:8000/v1.",
            )
        self._client = Client(
            base_url,
            key=os.environ.get(settings.api_key_env),
            key_env=settings.api_key_env,
            model=settings.served_model or family.example,
        )
        self._concurrency = settings.concurrency
        self._pool = ThreadPoolExecutor(settings.concurrency, "kinema-openai")

    def count_tokens(self, request: Request) -> int:
        """Zero: only the server can tell, and it does in the completion's usage."""
        return 0

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """In order of arrival, ``concurrency`` on their way at once."""
        return list(waiting[: max(0, self._concurrency - len(running))])

    def serve(self, inbox: Inbox) -> None:
        """See :class:`kinema.engines.base.Engine`: each request is one call in a thread of a pool.

        The inbox is this thread's alone, so the pool's threads hand over what they have through
        a queue.
        """
        running: dict[str, Call] = {}
        news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        try:
            while (taken := inbox.take([call.request for call in running.values()])) or running:
                for request in taken:
                    call = Call(request, is_streamed=inbox.is_streamed(request.id))
                    running[request.id] = call
                    self._pool.submit(self._run, call, news)
                for request_id in filter(inbox.is_cancelled, list(running)):
                    running.pop(request_id).cancel()
                for call, said in _all_of(news):
                    if running.get(call.request.id) is not call:
                        continue
                    if isinstance(said, str):
                        inbox.write(call.request.id, said)
                        continue
                    del running[call.request.id]
                    if isinstance(said, Completion):
                        inbox.complete(said)
                    elif isinstance(said, KinemaError):
                        inbox.fail(call.request.id, said)
                    else:
                        raise said
        finally:
            for call in running.values():
                call.cancel()

    def release(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _run(self, call: Call, news: queue.SimpleQueue[_News]) -> None:
        """In a thread of the pool: one call, from its first attempt to its end."""
        try:
            news.put((call, self._client.answer(call, lambda text: news.put((call, text)))))
        except Exception as problem:
            news.put((call, problem))


def _all_of(news: queue.SimpleQueue[_News]) -> Iterator[_News]:
    """What the threads say now; waits a moment where they say nothing."""
    try:
        yield news.get(timeout=_LOOK_AGAIN_SECONDS)
        while True:
            yield news.get_nowait()
    except queue.Empty:
        return
