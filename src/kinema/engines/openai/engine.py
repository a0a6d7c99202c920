"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, Ollama.

The conversation travels as chat messages; the frames of a video travel as images, each behind its
time, because that is what every such server understands.
"""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kinema.engines.base import Inbox
from kinema.engines.openai.client import Call, Client
from kinema.engines.settings import OpenAISettings
from kinema.errors import EngineUnreachable, KinemaError, RequestFailed, UsageError
from kinema.families import Family
from kinema.messages import Completion, Request

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.05
"""How long new requests may wait before those join that there is room for."""

_News = tuple[Call, str | Completion | KinemaError]
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

        Raises:
            EngineUnreachable: the server failed at the first request and answered nothing since.
        """
        calls = _Calls(inbox, self._start)
        try:
            while True:
                # Nothing is begun while it is open whether the server can answer anything.
                for request in () if calls.undecided else inbox.take(calls.requests):
                    calls.begin(request)
                if not calls.running:
                    break
                calls.drop_cancelled()
                calls.hear()
            for problem in calls.undecided.values():
                raise problem  # the scheduler tries it again behind all that waits
        finally:
            calls.cancel()

    def release(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _start(self, call: Call, news: queue.SimpleQueue[_News]) -> None:
        self._pool.submit(self._run, call, news)

    def _run(self, call: Call, news: queue.SimpleQueue[_News]) -> None:
        """In a thread of the pool: one call, from its first attempt to its end."""
        try:
            news.put((call, self._client.answer(call, lambda text: news.put((call, text)))))
        except KinemaError as problem:
            news.put((call, problem))
        except (
            Exception
        ) as problem:  # an answer that nobody foresaw is one request's, not the run's
            _log.exception("an answer could not be read")
            news.put((call, RequestFailed(f"The server's answer could not be read: {problem!r}.")))


class _Calls:
    """The calls of one ``serve``."""

    def __init__(self, inbox: Inbox, start: Callable[[Call, queue.SimpleQueue[_News]], None]):
        self.running: dict[str, Call] = {}
        self.undecided: dict[Request, EngineUnreachable] = {}
        """At which the server failed before it answered anything."""
        self._inbox = inbox
        self._start = start
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()

    @property
    def requests(self) -> list[Request]:
        """Those on their way."""
        return [call.request for call in self.running.values()]

    def begin(self, request: Request) -> None:
        """Send a request."""
        call = Call(request, is_streamed=self._inbox.is_streamed(request.id))
        self.running[request.id] = call
        self._start(call, self._news)

    def drop_cancelled(self) -> None:
        """Break off those whose callers have left."""
        for request_id in filter(self._inbox.is_cancelled, list(self.running)):
            self.running.pop(request_id).cancel()

    def hear(self) -> None:
        """Hand on what came, after a moment at most."""
        for call, said in _all_of(self._news):
            if self.running.get(call.request.id) is not call:
                continue
            if isinstance(said, str):
                call.has_said = True
                self._inbox.write(call.request.id, said)
            else:
                del self.running[call.request.id]
                self._end(call, said)

    def cancel(self) -> None:
        """Break all of them off."""
        for call in self.running.values():
            call.cancel()

    def _end(self, call: Call, said: Completion | KinemaError) -> None:
        if isinstance(said, Completion):
            self._inbox.complete(said)
            for request in self.undecided:
                self.begin(request)
            self.undecided.clear()
        elif isinstance(said, EngineUnreachable) and said.failed_at_request and not call.has_said:
            self.undecided[call.request] = said
        else:
            self._inbox.fail(call.request.id, said)


def _all_of(news: queue.SimpleQueue[_News]) -> Iterator[_News]:
    """What the threads say now; waits a moment where they say nothing."""
    try:
        yield news.get(timeout=_LOOK_AGAIN_SECONDS)
        while True:
            yield news.get_nowait()
    except queue.Empty:
        return
