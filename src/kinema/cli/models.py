"""``kinema models``: families, what they take, where they run."""

from __future__ import annotations

from typing import Any

from kinema.cli.output import put_record, put_table
from kinema.tasks.models import model_table


def models(*, json: bool = False) -> None:
    """List model families, what each takes, and the engines that run it here.

    Args:
        json: Print one JSON record per family.
    """
    rows = model_table()
    if json:
        for row in rows:
            put_record(row)
    else:
        put_table([["FAMILY", "VIDEO", "IMAGE", "ENGINES", "EXAMPLE"], *map(_cells, rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    engines = [f"{name} ({state})" for name, state in row["engines"].items()]
    return [
        row["family"],
        "yes" if row["video"] else "as timed images",
        "yes" if row["image"] else "no",
        ", ".join(engines),
        row["example"],
    ]
