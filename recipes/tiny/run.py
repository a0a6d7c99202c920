"""The whole recipe: scenes, features, data, warm start, training, held-out table.

    python recipes/tiny/run.py FOLDER --size small     shapes, random words, one step: does it hold?
    python recipes/tiny/run.py FOLDER --size medium    860 emoji, 6,000 clips: hours on two cores
    python recipes/tiny/run.py FOLDER --size full      860 emoji, 20,000 clips: wants a GPU

Every step is a command that anybody can type; they are printed as they run. A step whose output is
there already is left out, so the same command goes on where a stopped one ended.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Size:
    """How much is generated and learned."""

    scenes: str
    """Flags of generate.py."""
    train: str
    """Flags of ``kinema train``."""
    epochs: int
    """Of the warm start."""
    base: str = "base"
    """Words of base.py."""


SIZES = {
    "small": Size(
        scenes="--clips 6 --test 1",
        train="--max-steps 1 --per-device-train-batch-size 2 --learning-rate 1e-4",
        epochs=1,
        base="base --language-model small",
    ),
    "medium": Size(
        scenes="--art emoji --names 860 --clips 6000 --test 50",
        train="--max-steps 1000 --per-device-train-batch-size 8 --learning-rate 3e-4"
        " --lr-scheduler-type cosine --warmup-ratio 0.03 --save-steps 100 --save-total-limit 2",
        epochs=12,
    ),
    "full": Size(
        scenes="--art emoji --names 860 --clips 20000 --test 100",
        train="--num-train-epochs 2 --per-device-train-batch-size 16 --learning-rate 2e-4"
        " --lr-scheduler-type cosine --warmup-ratio 0.03 --packing --model-max-length 1024",
        epochs=12,
    ),
}


_LEARN = (
    "--stage lora --pretrain-mm-mlp-adapter warm.safetensors"
    " --data-path scenes/train.jsonl --features-folder features --bf16"
)


def main() -> None:
    """Run what is not done yet."""
    options = _parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for output, words in steps(SIZES[options.size], use_cpu=options.use_cpu):
        if output is None or not (options.folder / output).exists():
            print(f"\n$ {shlex.join(words)}", flush=True)
            status = subprocess.run(words, cwd=options.folder, check=False).returncode
            if status:
                sys.exit(status)


def steps(size: Size, *, use_cpu: bool) -> list[tuple[str | None, list[str]]]:
    """What each step leaves behind when it is done, None for a check, and its command."""
    device = "--use-cpu" if use_cpu else ""
    return [
        ("base", _python("base.py", size.base)),
        ("scenes/about.json", _python("generate.py", f"scenes {size.scenes}")),
        ("features/features.jsonl", _kinema("features scenes -o features --tower base")),
        (None, _kinema("data check scenes/train.jsonl --model base")),
        (
            "warm.safetensors",
            _python("align.py", f"base scenes features warm.safetensors --epochs {size.epochs}"),
        ),
        (
            "nearest.json",
            _python("nearest.py", "base scenes features warm.safetensors nearest.json"),
        ),
        (
            "run/trained",
            _kinema(f"train --model base --output-dir run {_LEARN} {size.train} {device}"),
        ),
        ("model", _kinema("train merge run model")),
        (
            "scores/report.md",
            _kinema("eval jsonl scenes/test.jsonl -m model -o scores --blind --max-new-tokens 12"),
        ),
        ("table.json", _python("table.py", "scenes scores table.json")),
    ]


def _python(script: str, words: str) -> list[str]:
    return [sys.executable, str(HERE / script), *words.split()]


def _kinema(words: str) -> list[str]:
    return [sys.executable, "-m", "kinema", *words.split()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--use-cpu", action="store_true", help="Do not look for a GPU.")
    return parser


if __name__ == "__main__":
    main()
