"""The API key: asked for on every route but ``/health``."""

from __future__ import annotations

import base64
import hmac
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from kinema.server.errors import KeyRefused, error_response

_OPEN = ("/health",)


class KeyCheck:
    """ASGI: refuses callers without the key.

    ``Authorization: Bearer KEY`` is what API clients send. A browser that opens the page asks its
    user and sends ``Basic``; the password is the key, the user name does not matter.
    """

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _OPEN or self._knows(scope):
            await self._app(scope, receive, send)
            return
        problem = KeyRefused(
            "There is no API key in the request, or a wrong one.",
            hint="Send it as `Authorization: Bearer KEY`.",
        )
        await error_response(problem)(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        scheme, _, value = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        given = value.strip() if scheme.lower() == b"bearer" else b""
        if scheme.lower() == b"basic":
            with suppress(ValueError):  # no base64
                given = base64.b64decode(value, validate=True).partition(b":")[2]
        return hmac.compare_digest(given, self._key)
