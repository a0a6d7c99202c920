"""The page below the API's routes; of Gradio's own routes only those that the page needs."""

from __future__ import annotations

import asyncio
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.route_utils import DEFAULT_TEMP_DIR
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.errors import UsageError
from kinema.server.errors import error_response
from kinema.server.page.blocks import asset, make_blocks, theme
from kinema.server.service import Service

_NEEDED = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"
    r"|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info|app_id|startup-events|cancel|reset|theme\.css"
    r"|queue/join|queue/data|heartbeat/[\w-]+)/?"
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; frame-ancestors 'self'; object-src 'none'"
)
"""A page of ours loads nothing from elsewhere, and is shown inside no other."""

_NO_FILES = UsageError("The page takes no files this way.", hint="Upload them to /v1/files.")


def open_page(app: FastAPI, service: Service) -> None:
    """Serve the page wherever no route of the API is."""
    # Gradio makes event loops that nobody closes wherever none is running.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _open_page(app, service)).result()


async def _open_page(app: FastAPI, service: Service) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    api = app.router.default
    gr.mount_gradio_app(
        app,
        make_blocks(service),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=asset("page.css"),
        js=asset("page.js"),
    )
    _remove_empty_folders()
    page = app.router.routes.pop().app  # type: ignore[attr-defined]  # the mount that was added last
    app.router.default = _Door(page, api)


def _remove_empty_folders() -> None:
    """Gradio makes a folder for a feature that we leave off."""
    folder = Path(DEFAULT_TEMP_DIR)
    with suppress(OSError):  # somebody else's Gradio keeps files there
        (folder / "vibe_edit_history").rmdir()
        folder.rmdir()


class _Door:
    """ASGI: lets the page's requests in; everything else is not there."""

    def __init__(self, page: ASGIApp, otherwise: ASGIApp) -> None:
        self._page = page
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is nothing."""
        if scope["type"] != "http" or not _NEEDED.fullmatch(scope["path"]):
            await self._otherwise(scope, receive, send)
            return
        if scope["path"].rstrip("/").endswith("/queue/join"):
            body = await _read(receive)
            try:
                is_plain = not _names_a_file(json.loads(body))
            except (ValueError, RecursionError):
                is_plain = False
            if not is_plain:
                await error_response(_NO_FILES)(scope, receive, send)
                return
            receive = _replayed(body, receive)
        await self._page(scope, receive, _guarded(send))


async def _read(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return b"".join(pieces)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever follows it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _names_a_file(value: Any) -> bool:
    """Whether Gradio would take something in the value for a file, and fetch or read it."""
    if isinstance(value, dict):
        return "path" in value or any(map(_names_a_file, value.values()))
    return isinstance(value, list) and any(map(_names_a_file, value))


def _guarded(send: Send) -> Send:
    async def with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                (b"content-security-policy", _POLICY.encode()),
            ]
        await send(message)

    return with_policy
