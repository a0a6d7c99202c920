"""Weights that change in place, at the same size and time, never give the answers of before."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from kinema.cli.app import run
from kinema.engines import EngineSettings
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from kinema.tasks.imports import CheckpointParts, import_checkpoint
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip
from support.clips import make_clip
from support.layouts import own
from support.towers import make_clip as make_tower
from support.videolm import make_neva

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

LOADED = ("--device", "cpu", "--dtype", "float32", "--max-new-tokens", "8")
FRAMES = ("--num-frames", "2")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(llava_folder, tmp_path):
    return shutil.copytree(llava_folder, tmp_path / "model")


def train_again(folder: Path, name: str = "model.safetensors") -> None:
    """Other values in a file of the same size, whose time of change is put back."""
    file = folder / name
    before = file.stat()
    drawn = torch.Generator().manual_seed(1)
    weights = {
        key: torch.randn(tensor.shape, generator=drawn).mul(0.3).to(tensor.dtype)
        for key, tensor in load_file(file).items()
    }
    save_file(weights, file, {"format": "pt"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def make_adapter(folder: Path, target: Path, names: str) -> Path:
    base = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=names, init_lora_weights=False))
    adapted.save_pretrained(target)
    return target


def refused(words, capsys, setting):
    """The command that worked before is refused, because of that setting."""
    capsys.readouterr()
    assert run(list(words)) == 2
    assert setting in capsys.readouterr().err


def test_answers_of_other_weights(folder, tmp_path, capsys):
    make_clip(tmp_path / "a.mp4", num_frames=10)
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    prompts.write_text(json.dumps({"video": "a.mp4", "question": "why?"}))
    words = ["answer", str(prompts), "-o", str(out), "-m", str(folder), *LOADED, *FRAMES]
    words += ["--media-base-path", str(tmp_path), "--insert-media-token", "left"]
    assert run(words) == 0
    first = out.read_text()
    train_again(folder)
    refused(words, capsys, "revision")
    assert run([*words, "--force"]) == 0
    assert json.loads(out.read_text())["pred_answer"] != json.loads(first)["pred_answer"]


def test_a_job_goes_on_with_the_same_weights_in_another_folder(folder, tmp_path):
    make_clip(tmp_path / "a.mp4", num_frames=10)
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    prompts.write_text(json.dumps({"video": "a.mp4", "question": "why?"}))
    words = ["answer", str(prompts), "-o", str(out), *LOADED, *FRAMES]
    words += ["--media-base-path", str(tmp_path), "--insert-media-token", "left"]
    assert run([*words, "-m", str(folder)]) == 0
    moved = folder.rename(tmp_path / "moved")
    assert run([*words, "-m", str(moved)]) == 0


def test_captions_of_other_weights(folder, tmp_path, capsys):
    video, out = make_clip(tmp_path / "a.mp4", num_frames=10), tmp_path / "out"
    words = ["caption", str(video), "-o", str(out), "-m", str(folder), *LOADED, "--fps", "2"]
    words += ["--answers", str(tmp_path / "answers.sqlite")]
    assert run(words) == 0
    first = (out / "captions.jsonl").read_text()
    train_again(folder)
    refused(words, capsys, "revision")
    assert run([*words, "--force"]) == 0
    assert (out / "captions.jsonl").read_text() != first


def test_predictions_of_other_weights(folder, tmp_path, capsys):
    own(tmp_path / "data")
    out = tmp_path / "out"
    words = ["eval", "jsonl", str(tmp_path / "data"), "-o", str(out), "-m", str(folder)]
    words += [*LOADED, *FRAMES]
    assert run(words) == 0
    (place,) = out.glob("*/predictions.jsonl")
    first = [json.loads(line) for line in place.read_text().splitlines()]
    train_again(folder)
    refused(words, capsys, "revision")
    assert run([*words, "--force"]) == 0
    second = [json.loads(line) for line in place.read_text().splitlines()]
    assert [r["prediction"]["reply"] for r in first] != [r["prediction"]["reply"] for r in second]
    assert first[0]["prediction"]["revision"] != second[0]["prediction"]["revision"]


def test_features_of_another_tower(tmp_path, capsys):
    video, out = make_clip(tmp_path / "a.mp4", num_frames=10), tmp_path / "features"
    tower = make_tower(tmp_path / "tower")
    words = ["features", str(video), "-o", str(out), "--tower", str(tower), "--num-frames", "4"]
    words += ["--devices", "cpu"]
    assert run(words) == 0
    (file,) = out.glob("*.safetensors")
    first = load_file(file)
    train_again(tower)
    refused(words, capsys, "weights")
    assert run([*words, "--force"]) == 0
    second = load_file(file)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def _ask(folder, **settings):
    params = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    chosen = EngineSettings(device="cpu", dtype="float32", **settings)
    with Chat(str(folder), params=params, settings=chosen) as session:
        return session.ask("why?", VideoPart(clip(1))).completion.token_ids


def test_vision_features_on_disk_are_those_of_the_weights_and_the_adapter(folder, tmp_path):
    tower = r".*vision_tower.*\.(q_proj|v_proj)"
    adapter = make_adapter(folder, tmp_path / "adapter", tower)
    cache = str(tmp_path / "features")
    of_base = _ask(folder, cache=cache)
    of_adapter = _ask(folder, adapter=str(adapter))
    assert of_adapter != of_base
    assert _ask(folder, adapter=str(adapter), cache=cache) == of_adapter
    train_again(adapter, "adapter_model.safetensors")
    trained_again = _ask(folder, adapter=str(adapter))
    assert trained_again != of_adapter
    assert _ask(folder, adapter=str(adapter), cache=cache) == trained_again
    train_again(folder)
    assert _ask(folder, cache=cache) == _ask(folder) != of_base


def test_an_archive_is_converted_once_wherever_it_lies_and_anew_when_it_changes(tmp_path):
    torch.manual_seed(0)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    make_neva(first)
    shutil.copytree(first, second)
    family = find_model(f"neva:{first / 'neva.nemo'}", parts=_parts(first)).family
    made = import_checkpoint(family, first / "neva.nemo", _parts(first))
    assert import_checkpoint(family, second / "neva.nemo", _parts(second)) == made
    train_again(second / "llm")
    assert import_checkpoint(family, second / "neva.nemo", _parts(second)) != made


def _parts(folder):
    return CheckpointParts(base_model=folder / "llm")
