"""Containers × codecs × what happens to files: which are read by an index, and are all right?

Usage: python benchmarks/containers.py

Makes some 480 small files with the ``ffmpeg`` program, plays each with it from front to back, reads
each with kinema, sampled and whole, and compares numbers drawn into the frames and their times.
Writes results/containers.json, from which ``docs/video.md`` has its table.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from common import machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from parity.cells import Verdict, all_cells, measure


def main() -> None:
    outcomes: Counter[str] = Counter()
    cells: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    odd: dict[str, str] = {}
    differ: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in all_cells():
            verdict: Verdict = measure(cell, Path(folder))
            outcomes[verdict.outcome] += 1
            cells[cell.container][cell.codec][cell.fate] = verdict.outcome
            if verdict.outcome in ("wrong", "not made"):
                odd[str(cell)] = verdict.detail
            if verdict.players_differ:
                differ.append(str(cell))
            print(cell, verdict.outcome, verdict.detail, file=sys.stderr, flush=True)
    program = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    write_result(
        "containers",
        {
            "what": "files of each kind against the ffmpeg program, which plays them front to back",
            "program": program.stdout.split(" Copyright")[0],
            "outcomes": dict(outcomes.most_common()),
            "cells": cells,
            "wrong_or_not_made": odd,
            "players_differ": differ,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
