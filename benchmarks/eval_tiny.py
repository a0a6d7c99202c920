"""The built-in model on a held-out set and on multiple choice, its blind baseline beside it.

Not a measure of speed: these are the numbers that docs/evaluation.md shows. Clips and questions
come from scripts/make_drawn_benchmarks.py with a seed of their own; nothing of ``tiny`` was chosen
on them.

    uv run python benchmarks/eval_tiny.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import machine, write_result
from kinema.tasks.evaluate.reporting import compare_runs
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.tasks.evaluate.stored import Run

CLIPS, SEED = 16, 2026
SETS = {"multiple choice": "mvbench", "held-out set": "jsonl"}
SCRIPT = Path(__file__).parents[1] / "scripts" / "make_drawn_benchmarks.py"


def measured(data: Path, benchmark: str, output: Path) -> dict[str, Any]:
    """Scores with and without the video, and what the video is worth."""
    seeing = EvalSettings(benchmark=benchmark, data=data)
    runs = [
        run_benchmark(settings, "tiny", output=output)
        for settings in (seeing, replace(seeing, blind=True))
    ]
    gained = compare_runs(*runs)
    return {
        "items": runs[0].scores.items,
        "unparsed": runs[0].scores.unparsed,
        "metrics": {name: row(name, runs, gained) for name in runs[0].scores.metrics},
        "by_group": runs[0].scores.tables,
    }


def row(name: str, runs: list[Run], gained: dict[str, Any]) -> dict[str, Any]:
    seen, blind = (run.scores.metrics[name] for run in runs)
    reach = seen.interval
    return {
        "tiny": round(seen.score, 2),
        "interval": [round(reach.low, 2), round(reach.high, 2)] if reach else None,
        "blind": round(blind.score, 2),
        "p": gained[name].p_value,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "drawn"
        words = [str(data), "--clips", str(CLIPS), "--seed", str(SEED)]
        subprocess.run([sys.executable, str(SCRIPT), *words], check=True)
        sets = {
            title: measured(data, benchmark, Path(scratch) / benchmark)
            for title, benchmark in SETS.items()
        }
    about = {"clips": CLIPS, "seed": SEED, "machine": machine()}
    write_result("eval_tiny", about | {"sets": sets})


if __name__ == "__main__":
    main()
