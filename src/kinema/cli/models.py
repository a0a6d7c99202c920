"""``kinema models``: families, what they take, where they run."""

from __future__ import annotations

from typing import Any

from kinema.cli.output import put, put_record, put_table, say
from kinema.tasks.chosen import choose_model, default_model
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


def use(model: str | None = None, /) -> None:
    """Choose the model of commands that name none.

    --model and KINEMA_MODEL win over it. Nothing is fetched before the model is used.

    Examples:
      kinema models use HuggingFaceTB/SmolVLM2-500M-Video-Instruct
      kinema models use spotter
      kinema models use

    Args:
        model: spotter, a checkpoint folder, family:FOLDER, or a name on a model hub; without it
            the present one is printed.
    """
    if model is None:
        put(default_model())
    else:
        say(f"{choose_model(model)} answers from now on where no model is named.")


def _cells(row: dict[str, Any]) -> list[str]:
    engines = [f"{name} ({state})" for name, state in row["engines"].items()]
    return [
        row["family"],
        "yes" if row["video"] else "as timed images",
        "yes" if row["image"] else "no",
        ", ".join(engines),
        row["example"],
    ]
