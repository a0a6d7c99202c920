"""Rendering of chat templates the way transformers does it, in a sandbox and without it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kinema.errors import ModelError

_MOST_SECONDS = 10.0
"""For rendering; templates of released models take less than a thousandth of it."""
_FAILURES = (
    *(TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
    RecursionError,
)
"""What a template can raise, such as of a macro that calls itself, or of a range too long."""
_CHECK = "kinema_check_time"
_running = threading.local()
"""``ends_at``: when the rendering of this thread has to be over."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool = True,
) -> str:
    """The prompt for ``messages``, ending where the assistant begins to speak.

    Without ``add_generation_prompt`` it is the finished conversation, as training sees it.

    Raises:
        ModelError: the template does not compile, refuses these messages, or does not end.
    """
    try:
        return _rendered(
            template,
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )
    except _FAILURES as problem:
        raise ModelError(
            f"The checkpoint's chat template failed: {problem}.",
            hint="The template decides which roles may follow each other; see its model card.",
        ) from problem


@lru_cache(maxsize=16)
def takes_parts(template: str) -> bool:
    """Whether a template reads a turn as typed parts; otherwise it prints its content as text."""
    part = {"type": "text", "text": "\uf8fe"}
    try:
        messages = [{"role": "user", "content": [part]}]
        said = _rendered(template, messages=messages, add_generation_prompt=True)
    except _FAILURES:
        return False
    return part["text"] in said and "'type'" not in said


class _Generation(Extension):
    """``{% generation %}``: marks what the assistant says, for training; it prints what it holds.

    Checkpoints since 2024 have it (transformers' AssistantTracker).
    """

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's own statements, as if nothing stood around them."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _rendered(template: str, **values: Any) -> str:
    compiled = _compile(template)
    _running.ends_at = time.monotonic() + _MOST_SECONDS
    return compiled.render(**values)


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    # The same switches as transformers' own environment, so that the same bytes come out.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    environment.globals[_CHECK] = _check_time
    # The sandbox bounds each loop, and loops in loops run for ever: each turn looks at the clock.
    parsed = environment.parse(template)
    for loop in parsed.find_all(nodes.For):
        call = nodes.Call(nodes.Name(_CHECK, "load"), [], [], None, None)
        loop.body.insert(0, nodes.ExprStmt(call).set_lineno(loop.lineno))
    return environment.from_string(parsed)


def _check_time() -> None:
    if time.monotonic() > _running.ends_at:
        raise TemplateError(f"it was not done after {_MOST_SECONDS:g} seconds")


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
