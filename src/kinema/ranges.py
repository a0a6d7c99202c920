"""What the values of settings may be, told once in code and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kinema.errors import UsageError


def require_value(holds: bool, name: str, value: object, allowed: str) -> None:
    """Refuse the value of a setting that is outside of its range.

    Args:
        holds: whether the value is allowed.
        name: of the field; its flag is called the same.
        value: what was given.
        allowed: the range in words.

    Raises:
        UsageError: it is not allowed.
    """
    if not holds:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} is {value}; it must be {allowed}.", hint="See --help.")


Ranges = Mapping[str, tuple[Callable[[Any], bool], str]]
"""What the fields of a class may be, in code and in words; None is not looked at."""


def require_ranges(settings: object, ranges: Ranges) -> None:
    """Refuse settings of which one is outside of its range; those that it lacks are passed over.

    Raises:
        UsageError: one is not allowed.
    """
    for name, (holds, allowed) in ranges.items():
        if (value := getattr(settings, name, None)) is not None:
            require_value(holds(value), name, value, allowed)
