"""The routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from kinema.engines.job import Answered
from kinema.lazy import Row, Table
from kinema.server import errors
from kinema.server.auth import KeyCheck
from kinema.server.backend import Piece
from kinema.server.caption_routes import add_captions
from kinema.server.limits import Gate
from kinema.server.metrics import Watch
from kinema.server.replies import Reply
from kinema.server.schema import ChatRequest
from kinema.server.service import Service
from kinema.version import __version__

T = TypeVar("T")
PAGE = Table(
    "extra",
    {
        "page": Row(
            "kinema.server.page.door:open_page",
            needs=("gradio",),
            install="pip install 'kinema[page]'",
            summary="the web page",
        )
    },
)


def create_app(service: Service) -> FastAPI:
    """The API of one service, which its maker closes when the app has ended."""
    app = FastAPI(title="kinema", version=__version__)
    errors.install(app)
    # Added last is asked first: count, then the key, then how much.
    app.add_middleware(Gate, admission=service.admission, settings=service.settings)
    if service.settings.api_key:
        app.add_middleware(KeyCheck, key=service.settings.api_key)
    app.add_middleware(Watch, metrics=service.metrics)
    _add_chat(app, service)
    _add_files(app, service)
    add_captions(app, service)
    _add_looks(app, service)
    if not PAGE["page"].missing:
        PAGE.load("page")(app, service)
        return app

    @app.get("/", response_class=PlainTextResponse)
    async def signpost() -> str:
        """Where the API is, and how to get the page."""
        return f"kinema answers at /v1, see /docs. The web page: {PAGE['page'].install}"

    return app


def _add_chat(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation about videos and images."""
        question, backend = await _unless_hung_up(request, service.read_question(body))
        reply = Reply(question.id, body.model)
        pieces = service.answer(question, backend, streamed=body.stream)
        if not body.stream:
            answers = await _unless_hung_up(request, _gathered(pieces))
            return JSONResponse(reply.whole(answers))
        # A request that cannot be answered is found out before the status line is written.
        first = await _unless_hung_up(request, anext(pieces))
        usage = bool(body.stream_options and body.stream_options.include_usage)
        chunks = reply.chunks(_again(first, pieces), question.n, with_usage=usage)
        return _EventStream(chunks, pieces)


def _add_files(app: FastAPI, service: Service) -> None:
    files = service.files

    @app.post("/v1/files")
    async def upload_file(
        file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()] = "vision"
    ) -> dict[str, Any]:
        """Store a video or picture, to ask about it by its id."""
        stored = await files.add(file.filename or "", purpose, file.read)
        return stored.to_dict()

    @app.get("/v1/files")
    async def list_files(
        after: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000
    ) -> dict[str, Any]:
        """Stored files, oldest first, a page behind the file ``after``."""
        found = files.list(after=after)
        data = [file.to_dict() for file in found[:limit]]
        return {"object": "list", "data": data, "has_more": len(found) > limit}

    @app.get("/v1/files/{file_id}")
    async def retrieve_file(file_id: str) -> dict[str, Any]:
        """One stored file."""
        return files.get(file_id).to_dict()

    @app.get("/v1/files/{file_id}/content")
    async def file_content(file_id: str) -> FileResponse:
        """The bytes that were uploaded."""
        return FileResponse(files.get(file_id).path, media_type="application/octet-stream")

    @app.delete("/v1/files/{file_id}")
    async def delete_file(file_id: str) -> dict[str, Any]:
        """Remove a stored file."""
        files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def _add_looks(app: FastAPI, service: Service) -> None:
    def card(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "kinema"}

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served, the default first."""
        return {"object": "list", "data": [card(name) for name in service.backends]}

    @app.get("/v1/models/{model:path}")
    async def retrieve_model(model: str) -> dict[str, Any]:
        """One of the models that are served."""
        return card(service.find(model).name)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether every model can answer; asks for no key."""
        broken = [b.name for b in service.backends.values() if b.scheduler.problem is not None]
        if broken:
            return JSONResponse({"status": "broken", "models": broken}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


class _EventStream(StreamingResponse):
    """Server-sent events; a caller that hangs up stops the model."""

    def __init__(self, events: AsyncIterator[str], pieces: AsyncGenerator[Piece, None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the events; stop the model whatever ends them."""
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


async def _unless_hung_up(request: Request, work: Awaitable[T]) -> T:
    """What ``work`` returns; it is cancelled when the caller hangs up."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "The caller hung up.")  # sent to a closed connection
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.wait({working, watching})


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _gathered(pieces: AsyncGenerator[Piece, None]) -> list[Answered]:
    """The answers in the order of their indices."""
    async with aclosing(pieces):
        done = {p.index: p.answered async for p in pieces if p.answered is not None}
    return [done[index] for index in sorted(done)]


async def _again(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    yield first
    async for piece in rest:
        yield piece
