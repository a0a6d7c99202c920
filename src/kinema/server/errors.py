"""Errors as OpenAI's clients expect them: a status, and ``{"error": {...}}``."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from kinema.errors import (
    AccessRefused,
    BrokenLogits,
    Busy,
    ContextTooLong,
    DecodeDeadline,
    EmptyRange,
    EngineDied,
    EngineUnreachable,
    KinemaError,
    MediaError,
    MissingCapability,
    ModelError,
    NotAFile,
    NotMedia,
    OutOfMemory,
    PathNotAllowed,
    RequestFailed,
    RequestRefused,
    SchemaMisfit,
    TooLarge,
    UrlNotAllowed,
    UsageError,
    in_fields,
)

_log = logging.getLogger(__name__)

STATUSES: dict[type[KinemaError], int] = {
    KinemaError: 500,
    UsageError: 400,
    MediaError: 422,
    NotAFile: 400,
    NotMedia: 415,
    EmptyRange: 400,
    TooLarge: 413,
    DecodeDeadline: 504,
    PathNotAllowed: 403,
    UrlNotAllowed: 403,
    ModelError: 500,
    MissingCapability: 400,
    AccessRefused: 502,
    ContextTooLong: 400,
    RequestRefused: 400,
    SchemaMisfit: 422,
    BrokenLogits: 500,
    RequestFailed: 500,
    OutOfMemory: 503,
    EngineDied: 503,
    EngineUnreachable: 502,
    Busy: 429,
}
"""The status of each error; one that is not named here has that of its nearest ancestor."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OPENAI_CODES = {"context_too_long": "context_length_exceeded", "busy": "rate_limit_exceeded"}
_FIELDS = {"max_new_tokens": "max_tokens", "schema": "response_format"}
"""OpenAI's names of fields that are called otherwise than our flags."""
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_RETRY_SECONDS = 5
"""When to ask again after a 503: memory is freed and an engine opened again by then."""


class NotFound(UsageError):
    """A model, file or route that this server does not have."""


class UnknownModel(NotFound):
    """The request names another model than the one that is served."""

    code = "model_not_found"


class KeyRefused(UsageError):
    """No API key, or a wrong one."""

    code = "invalid_api_key"


STATUSES |= {NotFound: 404, KeyRefused: 401}


def for_strangers(problem: BaseException) -> KinemaError:
    """The error itself when its words are ours; what others raised is logged and not told."""
    cause = problem.__cause__
    is_ours = cause is None or isinstance(cause, KinemaError)
    if isinstance(problem, KinemaError) and (is_ours or type(problem) is not ModelError):
        return problem
    _log.error("a request failed", exc_info=problem)
    return ModelError("The engine failed.", hint="Whoever runs this server finds why in its log.")


def status_of(problem: KinemaError) -> int:
    """The HTTP status that says what kind of problem this is."""
    return next(STATUSES[kind] for kind in type(problem).__mro__ if kind in STATUSES)


def error_body(
    message: str, *, status: int, code: str | None, param: str | None = None
) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def body_of(problem: KinemaError) -> dict[str, Any]:
    """The error body of one of ours."""
    sentence = " ".join(filter(None, (in_fields(text, _FIELDS) for text in problem.written)))
    code = _OPENAI_CODES.get(problem.code, problem.code)
    param = getattr(problem, "param", None)
    return error_body(sentence, status=status_of(problem), code=code, param=param)


def error_response(problem: KinemaError) -> JSONResponse:
    """The whole answer for one of ours."""
    headers = {}
    if isinstance(problem, Busy):
        headers["Retry-After"] = str(problem.retry_after_seconds)
    elif status_of(problem) == 503:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    if isinstance(problem, KeyRefused):
        headers["WWW-Authenticate"] = 'Basic realm="kinema"'
    return JSONResponse(body_of(problem), status_code=status_of(problem), headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error in this shape, also those that FastAPI raises."""

    @app.exception_handler(KinemaError)
    async def ours(request: Request, problem: KinemaError) -> JSONResponse:
        return error_response(problem)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, problem: RequestValidationError) -> JSONResponse:
        first = problem.errors()[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        sentence = f"{where}: {first['msg']}" if where else str(first["msg"])
        body = error_body(sentence, status=400, code="malformed", param=where or None)
        return JSONResponse(body, status_code=400)

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, problem: HTTPException) -> JSONResponse:
        status = problem.status_code
        body = error_body(str(problem.detail), status=status, code=_CODES.get(status))
        return JSONResponse(body, status_code=status, headers=problem.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, problem: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=problem)
        body = error_body("The server failed.", status=500, code="internal")
        return JSONResponse(body, status_code=500)
