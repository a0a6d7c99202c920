"""Containers × codecs × what happens to files: which are read by an index, and are all right?

Usage: python benchmarks/containers.py [CONTAINER ...]

Makes some 480 small files with the ``ffmpeg`` program, plays each with it from front to back, reads
each with kinema, sampled and whole, and compares numbers drawn into the frames and their times.
Writes results/containers.json, from which ``docs/video.md`` has its table; with names of containers
only their rows, beside those that were measured before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import RESULTS, machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from parity.cells import all_cells, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("containers", nargs="*")
    chosen = parser.parse_args().containers
    found: dict[str, dict[str, Any]] = {}
    kept = RESULTS / "containers.json"
    if chosen:
        found = {c["cell"]: c for c in json.loads(kept.read_text())["measured"]}
    with tempfile.TemporaryDirectory() as folder:
        for cell in all_cells():
            if chosen and cell.container not in chosen:
                continue
            verdict = measure(cell, Path(folder))
            found[str(cell)] = {"cell": str(cell), **asdict(cell), **asdict(verdict)}
            print(cell, verdict.outcome, verdict.detail, file=sys.stderr, flush=True)
    measured = [found[str(cell)] for cell in all_cells()]
    program = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    write_result(
        "containers",
        {
            "what": "files of each kind against the ffmpeg program, which plays them front to back",
            "program": program.stdout.split(" Copyright")[0],
            "outcomes": dict(Counter(c["outcome"] for c in measured).most_common()),
            "measured": measured,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
