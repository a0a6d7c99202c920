"""How long a user waits: ``--help``, ``import kinema``, and a whole chat of one token.

The chat is set against its floor: a bare script that imports torch and transformers, loads the same
weights, and runs one forward pass over the same number of prompt tokens. Both run as whole
processes, in turn, after one run each that warms the file cache. The model is shapes.SMALL, so that
its weights hide nothing of ours; a result without a model's name is of a whole answer of the
one of 135 million parameters.

    PYTHONPATH=tests python benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import machine, median, timed, write_result
from shapes import SMALL, small_shape

CLIP = "examples/four_things.mp4"
QUESTION = "What do you see?"

# The least that any program must do to answer with this model.
FLOOR = """
import sys, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, tokens = sys.argv[1], int(sys.argv[2])
AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder)
with torch.inference_mode():
    model(input_ids=torch.ones(1, tokens, dtype=torch.long))
"""

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "kinema --help": [sys.executable, "-m", "kinema", "--help"],
    "import kinema": [sys.executable, "-c", "import kinema"],
    "kinema chat --help": [sys.executable, "-m", "kinema", "chat", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(small_shape(Path(scratch) / "model"))
        chat = [sys.executable, "-m", "kinema", "chat", CLIP, QUESTION, "--model", folder, "--json"]
        chat += ["--max-new-tokens", "1"]
        commands = COMMANDS | {
            "floor": [sys.executable, "-c", FLOOR, folder, str(_prompt_tokens(chat))],
            "kinema chat": chat,
        }
        seconds = timed({name: lambda c=c: _run(c) for name, c in commands.items()}, runs=runs)
    medians = {name: round(median(values), 3) for name, values in seconds.items()}
    ratio = round(median(seconds["kinema chat"]) / median(seconds["floor"]), 3)
    write_result(
        "startup",
        {
            "machine": machine(),
            "model": SMALL,
            "runs": runs,
            "median_seconds": medians,
            "chat_over_floor": ratio,
        },
    )


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _prompt_tokens(chat: list[str]) -> int:
    done = subprocess.run(chat, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["usage"]["prompt_tokens"])


if __name__ == "__main__":
    main()
