"""Two processes of a real vLLM, each with a slice of every layer, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.elsewhere import make_elsewhere

pytest.importorskip("vllm")

CLIP = Path(__file__).parents[2] / "examples" / "four_things.mp4"
FLAGS = (
    "--device cpu --dtype float32 --num-frames 4 --max-new-tokens 8 --min-new-tokens 8"
    " --insert-media-token left --quiet"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint made elsewhere: a vLLM that ran in this process has changed the classes."""
    return make_elsewhere("llava-onevision", tmp_path_factory.mktemp("wide"))


def _answer(folder, home, name, *flags) -> str:
    prompts, output = home / "prompts.jsonl", home / f"{name}.jsonl"
    prompts.write_text(json.dumps({"video": str(CLIP), "question": "what is it?"}) + "\n")
    words = [sys.executable, "-W", "ignore", "-m", "kinema", "answer", str(prompts)]
    done = subprocess.run(
        [*words, "-m", str(folder), "-o", str(output), "--engine", name, *FLAGS.split(), *flags],
        env=os.environ | {"KINEMA_HOME": str(home / "home")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = map(json.loads, output.read_text().splitlines())
    assert record["pred_answer"], record
    # vLLM holds back the bytes of a character that the last token leaves unfinished.
    return record["pred_answer"].rstrip("\ufffd")


def test_two_slices_of_every_layer_give_the_answer_of_one(folder, tmp_path):
    whole = _answer(folder, tmp_path, "hf")
    flags = ["--max-context", "2048", "--tensor-parallel", "2"]
    assert _answer(folder, tmp_path, "vllm", *flags) == whole
