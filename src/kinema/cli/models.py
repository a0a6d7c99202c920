"""``kinema models``: families, what they take, where they run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from kinema.cli.output import put_record
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
        return
    Console().print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("family", "takes", "engines", "example"):
        table.add_column(heading)
    for row in rows:
        takes = [kind for kind in ("video", "image") if row[kind]]
        if not row["video"]:
            takes.insert(0, "video as timed images")
        engines = [f"{name} ({state})" for name, state in row["engines"].items()]
        table.add_row(row["family"], ", ".join(takes), ", ".join(engines), row["example"])
    return table
