"""``kinema answer`` and ``kinema chat`` in two processes of torchrun, each holding half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kinema.cli.app import run
from kinema.engines import EngineSettings
from kinema.engines.hf.parallel import find_process_group
from kinema.errors import MissingCapability, UsageError
from support.clips import make_clip
from support.videolm import HIDDEN, TEXT, make_neva

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("shelf")
    make_neva(folder)
    make_clip(folder / "clip.mp4", num_frames=9)
    records = [{"video": "clip.mp4", "text": f"{word}?<video>"} for word in ("What", "Where")]
    records.append({"video": "absent.mp4", "text": "<video>?"})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


@pytest.fixture(autouse=True)
def _cache(shelf, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(shelf / "cache"))


def words(shelf: Path, *more: str) -> list[str]:
    model = ["--model", str(shelf / "neva.nemo"), "--base-model", str(shelf / "llm"), "-q"]
    return [*model, "--max-new-tokens", "12", "--min-new-tokens", "12", *more]


def in_two_processes(*command: str, **how) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        **how,
    )


KINEMA_THAT_SAYS_WHAT_IT_HOLDS = """
import sys
from kinema.cli.app import run
from kinema.engines.hf import engine

load = engine.load

def load_and_tell(*args, **kwargs):
    processor, model = load(*args, **kwargs)
    weight = model.get_decoder().layers[0].mlp.up_proj.weight
    held = weight.to_local() if hasattr(weight, "to_local") else weight
    print("holds", *held.shape, file=sys.stderr)
    return processor, model

engine.load = load_and_tell
sys.exit(run(sys.argv[1:]))
"""


def test_two_processes_hold_half_each_and_draw_the_answers_of_one(shelf, tmp_path, capsys):
    script = tmp_path / "kinema_that_tells.py"
    script.write_text(KINEMA_THAT_SAYS_WHAT_IT_HOLDS)
    answers = []
    for name in ("one", "two"):
        command = ["answer", str(shelf / "prompts.jsonl"), "-o", str(tmp_path / f"{name}.jsonl")]
        command += ["--media-base-path", str(shelf), *words(shelf, "--temperature", "0.7")]
        command += ["--seed", "3"]
        if name == "one":
            assert run(command) == 3
        else:
            said = in_two_processes(str(script), *command).stderr
            assert said.count(f"holds {TEXT['intermediate_size'] // 2} {HIDDEN}") == 2, said
            assert "1 records failed" in said
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        answers.append([json.loads(line) for line in lines])
    capsys.readouterr()
    one, two = answers
    assert [record["usage"]["completion_tokens"] for record in two[:2]] == [12, 12]
    assert one == two


def test_a_conversation_runs_in_two_processes(shelf):
    command = ["chat", str(shelf / "clip.mp4"), *words(shelf), "--json"]
    done = in_two_processes("-m", "kinema", *command, input="What?\nAnd then?\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0, done.stderr
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]


def test_captions_are_written_by_the_first_of_two_processes(shelf, tmp_path):
    command = ["caption", str(shelf / "clip.mp4"), *words(shelf), "--summary-by", "extract"]
    command += ["--result-path", str(tmp_path / "two.json")]
    done = in_two_processes("-m", "kinema", *command)
    assert done.returncode == 0, done.stderr
    assert run([*command[:-1], str(tmp_path / "one.json")]) == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    said = [[batch["description"] for batch in result["batches"]] for result in (one, two)]
    assert said[0] == said[1] != []


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize("killed", ["the leader", "the other"])
def test_no_process_is_left_when_one_of_two_is_killed(shelf, tmp_path, killed):
    command = ["answer", str(shelf / "prompts.jsonl"), "-o", str(tmp_path / "out.jsonl")]
    command += ["--media-base-path", str(shelf), "--tensor-parallel", "2", "-q"]
    command += ["--model", str(shelf / "neva.nemo"), "--base-model", str(shelf / "llm")]
    command += ["--max-new-tokens", "1800", "--min-new-tokens", "1800"]
    leader = subprocess.Popen(
        [sys.executable, "-m", "kinema", *command], stderr=subprocess.PIPE, text=True
    )
    with leader:
        followers = []

        def started() -> bool:
            followers[:] = [
                child for child in children(leader.pid)
                if b"kinema" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            ]  # fmt: skip
            return bool(followers) or leader.poll() is not None

        wait_until(started)
        (other,) = followers
        assert leader.poll() is None
        os.kill(leader.pid if killed == "the leader" else other, signal.SIGKILL)
        status = leader.wait(60)
        said = leader.stderr.read()
    wait_until(lambda: not is_alive(other))
    if killed == "the other":
        assert status == 4
        assert "process 1 of 2 ended with status -9; the run stops." in said


@pytest.mark.parametrize("command", ["serve", "features", "train merge"])
def test_commands_of_one_process_say_so_under_torchrun(command, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(command.split()) == 2
    said = capsys.readouterr().err
    assert f"kinema {command} runs in one process, and torchrun started 2." in said
    assert "Start it without torchrun." in said


def test_slices_without_torchrun_say_how_to_start(monkeypatch):
    with pytest.raises(UsageError, match="there are 1 processes") as caught:
        find_process_group(EngineSettings(tensor_parallel=2))
    assert "torchrun --nproc-per-node 2" in caught.value.hint
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingCapability, match="quantization"):
        find_process_group(EngineSettings(quantization="bnb-8bit"))
