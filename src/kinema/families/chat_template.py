"""Rendering of chat templates the way transformers does it, in a sandbox and without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kinema.errors import ModelError


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
        ModelError: the template does not compile, or refuses these messages.
    """
    try:
        return _compile(template).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            **special_tokens,
        )
    except TemplateError as problem:
        raise ModelError(
            f"The checkpoint's chat template failed: {problem}.",
            hint="The template decides which roles may follow each other; see its model card.",
        ) from problem


@lru_cache(maxsize=16)
def takes_parts(template: str) -> bool:
    """Whether a template reads a turn as typed parts; otherwise it prints its content as text."""
    part = {"type": "text", "text": "\uf8fe"}
    try:
        said = _compile(template).render(
            messages=[{"role": "user", "content": [part]}], add_generation_prompt=True
        )
    except (TemplateError, TypeError):
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


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    # The same switches as transformers' own environment, so that the same bytes come out.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    return environment.from_string(template)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
