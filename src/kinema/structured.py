"""Answers that are JSON of a given shape: schemas are read here, and answers held against them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from kinema.errors import SchemaMisfit, UsageError
from kinema.lazy import require_packages

_SHOWN = 200


def read_schema(text: str) -> str:
    """A JSON Schema (draft 2020-12) in one spelling; the order of properties stays.

    Raises:
        UsageError: it is no JSON, no schema, or refers to a document elsewhere.
        MissingPackage: jsonschema is not installed.
    """
    try:
        schema = json.loads(text)
    except ValueError as problem:
        raise UsageError(f"The schema is no JSON: {problem}.", hint=_HINT) from problem
    if not isinstance(schema, dict):
        raise UsageError(f"The schema is {_shown(text)}, and must be an object.", hint=_HINT)
    validator = _validator_class()
    for flaw in validator(validator.META_SCHEMA).iter_errors(schema):
        raise UsageError(f"The schema is none: {flaw.message}.", hint=_HINT)
    for address in _references(schema):
        if not address.startswith("#"):
            raise UsageError(
                f"The schema refers to {address}.", hint="Put what it needs into its own $defs."
            )
    return json.dumps(schema, ensure_ascii=False)


def follow_schema(text: str, schema: str) -> Any:
    """The value that an answer is, held against the schema that it was asked for.

    Raises:
        SchemaMisfit: it is no JSON, or another shape.
    """
    try:
        value = json.loads(text)
    except ValueError as problem:
        raise SchemaMisfit(
            f"The answer is no whole JSON: {_shown(text)}.", hint="Raise --max-new-tokens."
        ) from problem
    for flaw in _validator(schema).iter_errors(value):
        raise SchemaMisfit(f"The answer does not follow the schema: {_shown(flaw.message)}.")
    return value


@lru_cache(64)
def _validator(schema: str) -> Any:
    return _validator_class()(json.loads(schema))


def _validator_class() -> Any:
    require_packages("A JSON Schema", ["jsonschema"], install="pip install 'kinema[schema]'")
    from jsonschema import Draft202012Validator  # noqa: PLC0415  an extra

    return Draft202012Validator


def _references(schema: Any) -> Iterator[str]:
    """Every address that a schema refers to."""
    if isinstance(schema, dict):
        yield from (str(schema[k]) for k in ("$ref", "$dynamicRef") if k in schema)
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from _references(part)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_HINT = 'It looks like {"type": "object", "properties": {…}, "required": […]}.'
