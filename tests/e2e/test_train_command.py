"""``kinema train`` as people start it: killed and resumed, alone and on two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kinema.models.videolm import VideoLMConfig
from kinema.tasks.train import find_base
from kinema.training.checkpoints import newest_checkpoint
from kinema.training.settings import from_flat
from support.training import losses, make_parts, run_training, write_data, write_features


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny VideoLM, a data file, and where the cache is."""
    folder = tmp_path_factory.mktemp("made")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINEMA_HOME", str(folder / "home"))
        base = find_base(from_flat(make_parts(folder))).folder
        features = write_features(folder / "features", VideoLMConfig.from_pretrained(base))
        data = write_data(folder / "train.jsonl", features)
        yield {"model_name_or_path": str(base), "data_path": data}


def command(settings: dict, output: Path, *, processes: int = 1) -> list[str]:
    """The command line of a run."""
    given = {"use_cpu": True, "logging_steps": 1, "learning_rate": 0.01} | settings
    given["output_dir"] = output
    flags = [f"--{name}={value}" for name, value in given.items()]
    if processes == 1:
        return [sys.executable, "-m", "kinema", "train", *flags]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", "kinema", "train", *flags]


def run_command(words: list[str]) -> subprocess.CompletedProcess:
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(made, tmp_path):
    given = made | {
        "stage": "lora",
        "lora_dropout": 0.2,  # so that a lost random state would show
        "max_steps": 24,
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": 2,
        "per_device_train_batch_size": 2,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
    }
    run_training(tmp_path / "whole", **given)
    kill_after_the_first_checkpoint(command(given, tmp_path / "killed"), tmp_path / "killed")
    reached = newest_checkpoint(tmp_path / "killed")
    assert reached.name != "checkpoint-24"
    run_training(tmp_path / "killed", **given)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for run in ("whole", "killed"):
        kept = sorted(folder.name for folder in (tmp_path / run).glob("checkpoint-*"))
        assert kept == ["checkpoint-21", "checkpoint-24"]
    assert_same_state(tmp_path / "whole" / "checkpoint-24", tmp_path / "killed" / "checkpoint-24")


def kill_after_the_first_checkpoint(words: list[str], run: Path) -> None:
    process = subprocess.Popen(
        words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 300
        while newest_checkpoint(run) is None:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def assert_same_state(one: Path, other: Path) -> None:
    """Weights, optimiser, schedule and random state are equal in every bit."""
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        states = [torch.load(folder / name, weights_only=False) for folder in (one, other)]
        assert same(*states), name
    steps = [
        json.loads((f / "trainer_state.json").read_text())["log_history"] for f in (one, other)
    ]
    assert [e.get("loss") for e in steps[0]] == [e.get("loss") for e in steps[1]]


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool((one == other).all()) if hasattr(one, "all") else one == other


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{}, {"fsdp": True}], ids=["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(made, tmp_path, extra):
    given = made | {"max_steps": 4, "save_strategy": "no", "stage": "full"}
    run_training(tmp_path / "one", **given, per_device_train_batch_size=4)
    shared = given | extra | {"per_device_train_batch_size": 2}
    done = run_command(command(shared, tmp_path / "two", processes=2))
    assert done.stdout.count("4 steps") == 1
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    held = [load_file(tmp_path / r / "trained" / "model.safetensors") for r in ("one", "two")]
    assert held[0].keys() == held[1].keys()
    for name, tensor in held[0].items():
        torch.testing.assert_close(held[1][name], tensor, atol=1e-3, rtol=1e-3)
