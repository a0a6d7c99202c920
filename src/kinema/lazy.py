"""Tables from a name to the object behind it, imported when it is first asked for.

A heavy package is imported at the top of the few files that own it, and those files are reached
through a :class:`Table`. That keeps ``kinema --help`` instant and lets one engine work where
another is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
        return tuple(name for name in self.needs if importlib.util.find_spec(name) is None)


@dataclass(frozen=True)
class Table(Mapping[str, Row]):
    """A registry: rows by name, loaded on use."""

    kind: str
    """What a row is called in messages: "engine", "family"."""
    rows: Mapping[str, Row]

    def __getitem__(self, name: str) -> Row:
        try:
            return self.rows[name]
        except KeyError:
            raise UnknownName(self.kind, name, self.rows) from None

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, name: str) -> Any:
        """Import and return the object called ``name``.

        Raises:
            UnknownName: the table has no such row.
            MissingPackage: a package of the row is not installed.
        """
        row = self[name]
        if row.missing:
            raise MissingPackage(
                f"The {self.kind} {name!r} needs {' and '.join(row.missing)}.",
                hint=f"Install with: {row.install or 'pip install ' + ' '.join(row.missing)}",
            )
        return load(row.target)


def load(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
