"""How long a user waits: ``--help``, ``import kinema``, and a whole one-shot chat with tiny.

The chat is set against its floor: a bare script that imports torch and transformers, loads the same
weights, and runs one forward pass over the same number of prompt tokens. Both run as whole
processes, in turn, after one run each that warms the file cache.

    uv run python benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from common import machine, median, timed, write_result
from kinema.models.tiny.build import build

CLIP = "examples/four_things.mp4"
QUESTION = "What do you see?"

# The least that any program must do to answer with this model.
FLOOR = """
import sys, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
import kinema.models.tiny
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
    folder = str(build())
    chat = [sys.executable, "-m", "kinema", "chat", CLIP, QUESTION, "--json"]
    commands = COMMANDS | {
        "floor": [sys.executable, "-c", FLOOR, folder, str(_prompt_tokens(chat))],
        "kinema chat": chat,
    }
    seconds = timed({name: lambda c=c: _run(c) for name, c in commands.items()}, runs=runs)
    medians = {name: round(median(values), 3) for name, values in seconds.items()}
    ratio = round(median(seconds["kinema chat"]) / median(seconds["floor"]), 3)
    write_result(
        "startup",
        {"machine": machine(), "runs": runs, "median_seconds": medians, "chat_over_floor": ratio},
    )


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _prompt_tokens(chat: list[str]) -> int:
    done = subprocess.run(chat, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["usage"]["prompt_tokens"])


if __name__ == "__main__":
    main()
