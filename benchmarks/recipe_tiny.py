"""The held-out table of a finished run of recipes/tiny/run.py, as docs/train.md shows it.

    uv run --with resvg-py python recipes/tiny/run.py FOLDER --size medium
    uv run python benchmarks/recipe_tiny.py FOLDER

Not a measure of speed. Everything in FOLDER follows from the size and the seed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from common import machine, write_result


def main(folder: Path) -> None:
    about = json.loads((folder / "scenes" / "about.json").read_text())
    learned = len((folder / "scenes" / "train.jsonl").read_text().splitlines())
    nearest = json.loads((folder / "nearest.json").read_text())
    trained = json.loads((folder / "table.json").read_text())["skills"]
    facts = {"names": about["names"], "art": about["art"], "training_clips": learned}
    tables = {"trained": trained, "nearest": nearest}
    write_result("recipe_tiny", facts | tables | {"machine": machine()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
