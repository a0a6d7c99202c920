"""Rows of tables that other packages bring, found by an entry point.

A package names a function in the group ``kinema`` of its entry points. The function is called once
and puts rows into the tables: ``kinema.families.add_family``, ``kinema.engines.add_engine``,
``METRICS``, ``BENCHMARKS``, ``kinema.tasks.data.convert.READERS``, ``DEMO_MODELS`` of
``kinema.captioning.result``. Functions of the group ``kinema.videolm`` are called when
``kinema.models.videolm`` is imported, and with it torch: for ``FUSIONS`` and ``TIMES``.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

from kinema.errors import UsageError

TABLES, VIDEOLM = "kinema", "kinema.videolm"
"""The groups of entry points."""


@lru_cache(maxsize=2)
def load_plugins(group: str = TABLES) -> tuple[str, ...]:
    """Call what installed packages named, once in a process; returns the names.

    Raises:
        UsageError: one of them fails; names it.
    """
    found = entry_points(group=group)
    for entry in found:
        try:
            entry.load()()
        except Exception as problem:  # whatever a package of others does
            raise UsageError(
                f"The plugin {entry.name!r} ({entry.value}) failed: "
                f"{type(problem).__name__}: {problem}.",
                hint="Repair or uninstall it.",
            ) from problem
    return tuple(entry.name for entry in found)
