"""Tables from a name to what it means, imported, where it is heavy, when it is asked for.

A heavy package is imported at the top of the few files that own it, and those files are reached
through a :class:`Table`. That keeps ``kinema --help`` instant and lets one engine work where
another is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kinema.errors import MissingPackage, UnknownName


@dataclass(frozen=True)
class Row:
    """Where an object lives and what must be installed before it can be imported."""

    target: str
    """``"package.module:attribute"``."""
    needs: tuple[str, ...] = ()
    """Importable packages that the module wants."""
    install: str = ""
    """The command that brings them."""
    summary: str = ""
    """One line for people."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages of ``needs`` that are not installed."""
        return _missing(self.needs)


V = TypeVar("V")
R = TypeVar("R", bound=Row)


class Named(dict[str, V]):
    """Values by name; asking for a name that it does not hold raises UnknownName.

    Args:
        kind: what one is called in messages: "engine", "family".
        rows: by name.
    """

    def __init__(self, kind: str, rows: Mapping[str, V]) -> None:
        super().__init__(rows)
        self.kind = kind

    def __missing__(self, name: str) -> V:
        raise UnknownName(self.kind, str(name), self)


class Table(Named[R]):
    """A registry: rows by name, loaded on use."""

    def load(self, name: str) -> Any:
        """Import and return the object called ``name``.

        Raises:
            UnknownName: the table has no such row.
            MissingPackage: a package of the row is not installed.
        """
        row = self[name]
        require_packages(f"The {self.kind} {name!r}", row.needs, install=row.install)
        return load(row.target)


def require_packages(what: str, packages: Iterable[str], *, install: str = "") -> None:
    """Refuse what needs packages that are not installed, before it is imported.

    Args:
        what: begins the message: "The stage 'lora'".
        packages: importable names.
        install: the command that brings them, where it is not the plain one.

    Raises:
        MissingPackage: one of them is not there.
    """
    if missing := _missing(packages):
        raise MissingPackage(
            f"{what} needs {' and '.join(missing)}.",
            hint=f"Install with: {install or 'pip install ' + ' '.join(missing)}",
        )


def _missing(packages: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in packages if importlib.util.find_spec(name) is None)


def load(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
