"""Dataclasses as values of JSON, and back: what records, ledgers and reports hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Self, get_args, get_type_hints


class Plain:
    """A dataclass that is written as JSON by its fields, and read again by their types."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {name: _written(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The value that :meth:`to_dict` wrote, whatever else stands beside its fields."""
        given = {name: hint for name, hint in _hints(cls).items() if name in values}
        return cls(**{name: _read(hint, values[name]) for name, hint in given.items()})


def changed(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, ready for JSON."""
    given = ((f.name, getattr(value, f.name), f.default) for f in fields(value))
    return {name: _written(one) for name, one, default in given if one != default}


_hints: Callable[..., dict[str, Any]] = cache(get_type_hints)


def _written(value: Any) -> Any:
    if isinstance(value, Plain):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    return list(map(_written, value)) if isinstance(value, tuple) else value


def _read(hint: Any, value: Any) -> Any:
    """A field's value: what stands in a list becomes a tuple where the field is one."""
    if isinstance(hint, type) and issubclass(hint, Plain):
        return hint.from_dict(value)
    inside = get_args(hint)
    if NoneType in inside:
        return None if value is None else _read(inside[0], value)
    if getattr(hint, "__origin__", None) is tuple:
        return tuple(_read(inside[0], item) for item in value)
    return value
