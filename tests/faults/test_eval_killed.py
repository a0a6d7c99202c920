"""An evaluation killed again and again ends with the bytes of one that was left alone."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.clips import make_clip
from support.killed import KILLS, Command

FILES = ("predictions.jsonl", "results.json", "run.json")
HF = ", ".join(
    (
        *("kinema.tasks.evaluate.runs", "kinema.engines.hf", "kinema.video"),
        *("transformers.generation.utils", "transformers.models.qwen2.modeling_qwen2"),
        "transformers.models.llava_onevision.modeling_llava_onevision",
    )
)


def write_data(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir()
    for i, video in enumerate(sorted({row["video"] for row in rows})):
        make_clip(folder / video, num_frames=5 + i % 7)
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def kill_and_compare(command: list[str], output: Path, imports: str) -> int:
    """Run ``command`` whole, and again with kills at random points; returns how often it died."""
    chance = random.Random(0)
    whole, cut = output / "whole", output / "cut"
    with Command(*command, str(whole), imports=imports) as run:
        status, seconds = run.run()
    assert status == 0
    kills = 0
    with Command(*command, str(cut), imports=imports) as run:
        while kills < KILLS:
            status, _ = run.run(kill_after=chance.uniform(0.1, 0.8) * seconds)
            assert status in {0, -signal.SIGKILL}
            kills += status != 0
            if status == 0:  # it got through: begin again, so that all kills fall into the work
                compare(whole, cut)
                shutil.rmtree(cut)
        assert run.run()[0] == 0
    compare(whole, cut)
    (ledger,) = cut.glob("*/ledger.sqlite")
    with closing(sqlite3.connect(ledger)) as database:
        assert database.execute("SELECT DISTINCT state FROM unit").fetchall() == [("done",)]
    return kills


def compare(whole: Path, cut: Path) -> None:
    for name in FILES:
        (one,), (other,) = whole.glob(f"*/{name}"), cut.glob(f"*/{name}")
        assert other.read_bytes() == one.read_bytes(), name


def test_a_run_killed_and_resumed_has_the_same_bytes(tmp_path):
    rows = [
        {"video": f"{i}.mp4", "question": f"is it {i}?", "answer": f"it {i}"} for i in range(60)
    ]
    data = write_data(tmp_path / "data", rows)
    words = ["eval", "jsonl", str(data), "-m", "echo", "--num-frames", "2", "-o"]
    imports = "kinema.tasks.evaluate.runs, kinema.engines.echo, kinema.video"
    assert kill_and_compare(words, tmp_path, imports) == KILLS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that find letters likely enough to be ranked."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from support.tiny_families import make_checkpoint

    torch.manual_seed(0)
    folder = make_checkpoint("llava-onevision", tmp_path_factory.mktemp("llava-onevision"))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(list("ABC"))] *= 40
    model.save_pretrained(folder)
    return folder


def test_batches_and_ranked_options_of_a_real_model_have_the_same_bytes(checkpoint, tmp_path):
    """Texts come in batches of four; probabilities are numbers, so their requests run alone."""
    rows = []
    for i in range(24):
        row = {"video": f"{i // 4}.mp4", "question": "what " + "is " * (i % 5) + f"it, {i}?"}
        choice = {"options": ["a dog", "a cat", "a cow"], "answer": "ABC"[i % 3]}
        rows.append(row | (choice if i % 2 else {"answer": "it"}))
    data = write_data(tmp_path / "data", rows)
    words = ["eval", "jsonl", str(data), "-m", str(checkpoint), "--rank-options"]
    words += ["--num-frames", "2", "--max-new-tokens", "12", "--batch-size", "4"]
    words += ["--device", "cpu", "--dtype", "float32", "-o"]
    assert kill_and_compare(words, tmp_path, HF) == KILLS
    (predictions,) = (tmp_path / "cut").glob("*/predictions.jsonl")
    said = [json.loads(line)["prediction"] for line in predictions.read_text().splitlines()]
    ranked = [i for i, prediction in enumerate(said) if prediction["option_scores"] is not None]
    assert {*ranked} <= {*range(1, 24, 2)}
    assert len(ranked) >= 6  # of twelve; no letter is among the likeliest tokens of the others
    assert len({p["reply"] for p in said[::2]}) > 1
