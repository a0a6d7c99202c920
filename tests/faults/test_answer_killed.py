"""``kinema answer`` killed at random points and resumed."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from support.clips import make_clip
from support.killed import KILLS, Command

pytestmark = pytest.mark.slow


def write_records(folder: Path, count: int) -> list[str]:
    """Words of a command that asks ``count`` questions about three clips."""
    for i in range(3):
        make_clip(folder / f"video_{i}.mp4", num_frames=12 + i)
    records = [{"video": f"video_{i % 3}.mp4", "text": f"Question {i}"} for i in range(count)]
    prompts = folder / "p.jsonl"
    prompts.write_text("\n".join(json.dumps(record) for record in records))
    words = ["answer", str(prompts), "--media-base-path", str(folder), "-q"]
    return [*words, "--insert-media-token", "right"]


def kill_and_compare(words: list[str], folder: Path, imports: str) -> list[dict]:
    """The records, written by a run that was left alone and by one that was killed."""
    whole, killed = folder / "whole.jsonl", folder / "killed.jsonl"
    with Command(*words, "-o", str(whole), imports=imports) as command:
        status, seconds = command.run()
    assert status == 0
    chance = random.Random(0)
    with Command(*words, "-o", str(killed), imports=imports) as command:
        kills = 0
        while kills < KILLS:
            status, _ = command.run(kill_after=chance.uniform(0.1, 0.9) * seconds)
            assert status in {0, -signal.SIGKILL}
            kills += status != 0
            if status == 0:  # it got through: begin again, so that all kills fall into the work
                assert killed.read_bytes() == whole.read_bytes()
                killed.unlink()
                killed.with_name(".killed.jsonl.ledger").unlink()
        assert command.run()[0] == 0
    assert killed.read_bytes() == whole.read_bytes()
    return [json.loads(line) for line in whole.read_text().splitlines()]


def test_kills_and_a_resumed_run_give_the_same_bytes(tmp_path: Path) -> None:
    words = [*write_records(tmp_path, 300), "-m", "echo"]
    imports = "kinema.tasks.answer, kinema.engines.echo, kinema.video"
    records = kill_and_compare(words, tmp_path, imports)
    assert [record["text"] for record in records] == [f"Question {i}" for i in range(300)]


def test_a_real_model_with_log_probabilities_gives_the_same_bytes(tmp_path: Path) -> None:
    """Requests for log-probabilities run alone, so that no neighbour moves their last digits."""
    from support.checkpoints import make_video_llava

    model = make_video_llava(tmp_path / "model")
    words = [
        *write_records(tmp_path, 24),
        "-m",
        str(model),
        "--num-frames",
        "8",
        "--batch-size",
        "4",
    ]
    words += ["--max-new-tokens", "6", "--logprobs", "2", "--device", "cpu", "--dtype", "float32"]
    imports = "kinema.tasks.answer, kinema.engines.hf, kinema.video, transformers.generation"
    records = kill_and_compare(words, tmp_path, imports)
    assert all(len(record["logprobs"]) > 0 for record in records)
    assert all(len(token["alternatives"]) == 2 for r in records for token in r["logprobs"])
