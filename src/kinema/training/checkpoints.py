"""Checkpoints of a run: which are whole, and what of them is the model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from kinema.errors import ModelNotFound

_NAME = re.compile(r"checkpoint-(\d+)")


def newest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run; a killed one may have left a half-written one."""
    return next((folder for folder in _checkpoints(run) if is_whole(folder)), None)


def is_whole(checkpoint: Path) -> bool:
    """True when everything was written: the Trainer writes its state last."""
    try:
        state: Any = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and "global_step" in state


def chosen_checkpoint(run: Path, wanted: str | None) -> Path | None:
    """Where a run goes on: the newest whole checkpoint, or the one that was asked for.

    Args:
        run: the output folder.
        wanted: a checkpoint folder; ``none`` to start over; None for the newest.

    Raises:
        ModelNotFound: the folder is no whole checkpoint.
    """
    if wanted is None or wanted.lower() == "true":
        return newest_checkpoint(run)
    if wanted.lower() in ("none", "false"):
        return None
    if not is_whole(Path(wanted)):
        raise ModelNotFound(
            f"{wanted} is no whole checkpoint.",
            hint="Give a folder checkpoint-N of a run; the newest is found without this setting.",
        )
    return Path(wanted)


def tidy(run: Path, *, start_over: bool) -> None:
    """Remove checkpoints that a killed run left half-written; all of them to start over."""
    for folder in _checkpoints(run):
        if start_over or not is_whole(folder):
            shutil.rmtree(folder)


def _checkpoints(run: Path) -> list[Path]:
    """Newest first."""
    found = [f for f in run.glob("checkpoint-*") if f.is_dir() and _NAME.fullmatch(f.name)]
    return sorted(found, key=lambda f: int(f.name.rpartition("-")[2]), reverse=True)
