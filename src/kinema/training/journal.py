"""What a run tells while it goes: console lines, ``log.jsonl`` and ``loss.png``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from kinema.files import write_lines
from kinema.training.plot import plot_losses
from kinema.training.results import keep_weights

LOG, PLOT = "log.jsonl", "loss.png"


class Journal(TrainerCallback):  # type: ignore[misc]
    """Writes down every loss, once, also when a run is resumed."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._began = (0, 0.0)

    def on_train_begin(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        """Take back lines that a killed run wrote behind its last checkpoint."""
        self._began = (state.global_step, time.perf_counter())
        if state.is_world_process_zero:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_lines(self._folder / LOG, map(json.dumps, state.log_history))

    def on_log(
        self, _args: Any, state: TrainerState, _control: Any, logs: Any = None, **_: Any
    ) -> None:
        """Append one line."""
        if not state.is_world_process_zero or not logs:
            return
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(state.log_history[-1]) + "\n")
        for name in ("loss", "eval_loss"):
            if name in logs:
                self._say(self._line(state, logs, name))

    def on_save(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        """Draw the curve so far; the checkpoint is no model that could be loaded alone."""
        if state.is_world_process_zero:
            keep_weights(self._folder / f"checkpoint-{state.global_step}")
        self._plot(state)

    def on_train_end(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        """Draw the whole curve."""
        self._plot(state)

    def _line(self, state: TrainerState, logs: dict[str, Any], name: str) -> str:
        step, began = self._began
        pace = (time.perf_counter() - began) / max(state.global_step - step, 1)
        left = (state.max_steps - state.global_step) * pace
        words = [f"step {state.global_step} of {state.max_steps}", f"{name} {logs[name]:.4f}"]
        if "learning_rate" in logs:
            words.append(f"learning rate {logs['learning_rate']:.2e}")
        return ", ".join([*words, f"{pace:.2f} s a step, {left / 60:.0f} min left"])

    def _plot(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            curves = {
                title: [(e["step"], e[key]) for e in state.log_history if key in e]
                for title, key in (("training", "loss"), ("evaluation", "eval_loss"))
            }
            plot_losses(self._folder / PLOT, curves)
