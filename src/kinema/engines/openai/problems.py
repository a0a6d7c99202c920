"""What a server says when it does not answer, as errors of ours, in its own words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from kinema.errors import (
    AccessRefused,
    EngineUnreachable,
    ModelError,
    ModelNotFound,
    RequestFailed,
    RequestRefused,
)

_REFUSES = {400, 413, 415, 422}
_NO_ACCESS = {401, 402, 403}
_MAY_PASS = {408, 409, 425, 429}
"""Beside 5xx, what a server says while it is busy or not ready."""
_BUSY = {503, 529}
_LONGEST = 500
_SECRET_LENGTH = 16


def may_pass(status: int) -> bool:
    """Whether the same request may be answered later."""
    return status in _MAY_PASS or status >= 500


def status_of(response: httpx.Response, body: Any) -> int:
    """The status of an answer: that of the error in it, where the server sent one under 200.

    Args:
        response: as it came.
        body: its JSON.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not response.is_success or not error or body.get("choices"):
        return response.status_code
    return _code_of(error) or 400


def error_of(response: httpx.Response, status: int, model: str, key_env: str) -> ModelError:
    """The error of an answer that is none.

    Args:
        response: read, or still to be read.
        status: see :func:`status_of`.
        model: what the server calls the model.
        key_env: where the key was read from.
    """
    said = said_by(response)
    if status in _NO_ACCESS:
        return AccessRefused(
            f"The server refused the key ({status}): {said}",
            hint=f"Set {key_env} to one that it accepts.",
        )
    if status == 404:
        return ModelNotFound(
            f"The server has no model {model!r}, or no chat API at this address.",
            hint="--model is the name the server uses; --base-url usually ends in /v1.",
        )
    if status in _REFUSES:
        return RequestRefused(
            f"The server refused the request ({status}): {said}",
            hint="Fewer or smaller frames help where it says the input is too long.",
        )
    if may_pass(status):
        return EngineUnreachable(
            f"The server is busy or failing ({status}): {said}",
            hint="It was asked several times. Try again later, or lower --concurrency.",
            failed_at_request=status >= 500 and status not in _BUSY,
        )
    return ModelError(
        f"The server does not answer as a chat server does ({status}): {said}",
        hint="Is --base-url right? It usually ends in /v1.",
    )


def error_event(error: Any, response: httpx.Response) -> ModelError:
    """The error of a stream that ends with one."""
    said = without_key(_sentence(error) or str(error), response)[:_LONGEST]
    if may_pass(_code_of(error) or 0):
        return EngineUnreachable(f"The server failed in the middle of the answer: {said}")
    return RequestFailed(f"The server ended the answer: {said}")


def said_by(response: httpx.Response) -> str:
    """Why a server refused, in its own words where it has some."""
    try:
        said = _sentence(json.loads(response.read()))
    except (ValueError, httpx.HTTPError, httpx.StreamError):
        said = ""
    return without_key(said or response.reason_phrase, response)[:_LONGEST]


def parameter_of(response: httpx.Response) -> str:
    """The parameter that an error of OpenAI's schema names."""
    try:
        error = json.loads(response.read())["error"]
        return str(error.get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError, httpx.HTTPError):
        return ""


def without_key(text: str, response: httpx.Response) -> str:
    """The text, where a server repeats the key that it was sent, without it.

    A key that could be an ordinary word ("none", "EMPTY", as local servers take them) is no secret
    and is taken out behind "Bearer" alone.
    """
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    if not key:
        return text
    is_secret = len(key) >= _SECRET_LENGTH or (len(key) > 5 and not key.isalpha())
    before = "" if is_secret else "(?<=Bearer )"
    return re.sub(rf"{before}(?<![\w-]){re.escape(key)}(?![\w-])", "(the key)", text)


def _code_of(error: Any) -> int | None:
    """The HTTP status that an error names, whether as a number or in letters."""
    if not isinstance(error, Mapping):
        return None
    for name in ("code", "status", "status_code"):
        value = str(error.get(name) or "")
        if value.isdigit() and 400 <= int(value) < 600:
            return int(value)
    kind = f"{error.get('type') or ''} {error.get('code') or ''}"
    if re.search(r"server_error|internal|overloaded|unavailable|timeout", kind, re.IGNORECASE):
        return 500
    return 429 if "rate_limit" in kind else None


def _sentence(body: Any) -> str:
    """The message of an error: OpenAI's ``error.message``, FastAPI's ``detail``, or a text."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_sentence, body)))
    if not isinstance(body, Mapping):
        return ""
    if "msg" in body:  # one of FastAPI's: where, and what is wrong there
        place = ".".join(map(str, body.get("loc") or ()))
        return f"{place}: {body['msg']}" if place else str(body["msg"])
    for name in ("error", "message", "detail", "error_message"):
        if said := _sentence(body.get(name)):
            return said
    return ""
