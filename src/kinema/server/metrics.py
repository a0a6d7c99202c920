"""What ``/metrics`` tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.messages import Completion

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter(
            "kinema_requests", "HTTP requests.", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "kinema_request_seconds",
            "From request to last byte.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.first_token = Histogram(
            "kinema_first_token_seconds",
            "From the engine's start to the first token.",
            buckets=_SECONDS,
            registry=own,
        )
        self.prompt_tokens = Counter("kinema_prompt_tokens", "Tokens read.", registry=own)
        self.completion_tokens = Counter("kinema_completion_tokens", "Tokens said.", registry=own)
        self.frames = Counter("kinema_frames", "Frames shown to the model.", registry=own)

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"kinema_{name}", description, registry=self._registry).set_function(value)

    def count(self, completion: Completion) -> None:
        """One answer."""
        self.prompt_tokens.inc(completion.usage.prompt_tokens)
        self.completion_tokens.inc(completion.usage.completion_tokens)
        if completion.first_token_seconds is not None:
            self.first_token.observe(completion.first_token_seconds)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self._registry)


class Watch:
    """ASGI: counts and times every request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # nginx's number for a caller that hung up before the answer
        began = time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # The route's pattern, never the path: strangers must not make up names.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)
