"""How much a server takes on: settings, and the gate that every request passes first."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.errors import Busy, TooLarge
from kinema.ranges import Ranges, require_ranges
from kinema.server.errors import error_response

MEBIBYTE = 1 << 20
_GATED = ("/v1/chat/completions", "/v1/files", "/v1/videos/captions")
"""Routes that cost more than a look."""
_COUNTS = ("max_requests", "max_body_mib", "max_file_mib", "stored_files_mib", "decode_workers")
_RANGES: Ranges = {
    **dict.fromkeys(_COUNTS, (lambda count: count >= 1, "1 or more")),
    "port": (lambda port: 0 <= port <= 65_535, "0 to 65535"),
    "decode_seconds": (lambda seconds: 0 < seconds < math.inf, "above 0"),
    "drain_seconds": (lambda seconds: 0 <= seconds < math.inf, "0 or more"),
    "allowed_local_media_path": (Path.is_dir, "a folder that exists"),
}
_SMALLER = "Upload the video to /v1/files, or send a URL."


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server may be asked, by whom, and how much of it at once."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for the whole network."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and says which."""
    api_key: str | None = None
    """Ask every caller for this key (`Authorization: Bearer KEY`); KINEMA_API_KEY as well."""
    served_model_name: str | None = None
    """What callers call the model, instead of its own name."""
    allowed_local_media_path: Path | None = None
    """Let callers name files below this folder; none otherwise."""
    allowed_media_domains: tuple[str, ...] = ()
    """Fetch media from these hosts only; every public one when not given."""
    private_media_hosts: tuple[str, ...] = ()
    """Hosts that may have an address that is not public."""
    max_requests: int = 64
    """Requests that are answered or wait at once; one more is refused with 429."""
    max_body_mib: int = 64
    """Longest JSON body, in MiB; videos inside count as base64."""
    max_file_mib: int = 256
    """Longest file that is uploaded or fetched, in MiB."""
    stored_files_mib: int = 4096
    """All uploaded files together, in MiB; one more is refused until some are deleted."""
    decode_workers: int = 2
    """Processes that decode videos."""
    decode_seconds: float = 60.0
    """After which reading one video is given up."""
    drain_seconds: float = 30.0
    """On SIGTERM: how long requests that are under way may take to finish."""

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)


class Admission:
    """Counts what is under way and refuses what would be too much."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._mean_seconds = 1.0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """One request, from its first byte to its last.

        Raises:
            Busy: as many as allowed are under way.
        """
        if self.count >= self.most:
            raise Busy(
                f"{self.count} requests are under way, which is as many as this server takes.",
                retry_after_seconds=max(1, min(60, round(self._mean_seconds))),
            )
        self.count += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.count -= 1
            self._mean_seconds += 0.1 * (time.monotonic() - began - self._mean_seconds)


class Gate:
    """ASGI: admits requests and ends bodies that are too long, before anything is parsed."""

    def __init__(self, app: ASGIApp, *, admission: Admission, settings: ServerSettings) -> None:
        self._app = app
        self._admission = admission
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            is_upload = scope["path"].startswith("/v1/files")
            mib = self._settings.max_file_mib + 1 if is_upload else self._settings.max_body_mib
            most = mib * MEBIBYTE
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > most:
                raise TooLarge(f"The body is longer than {mib} MiB.", hint=_SMALLER)
            body = _counted(receive, most)
            if scope["method"] == "POST" and scope["path"].startswith(_GATED):
                with self._admission.enter():
                    await self._app(scope, body, send)
            else:
                await self._app(scope, body, send)
        except (Busy, TooLarge) as problem:
            await error_response(problem)(scope, receive, send)


def _counted(receive: Receive, most: int) -> Receive:
    """The pieces of a body, unless one is too many."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            # The framework reads the body, and passes on its own exceptions only.
            sentence = f"The body is longer than {most // MEBIBYTE} MiB."
            raise HTTPException(413, f"{sentence} {_SMALLER}")
        return message

    return counted
