"""LWM's commands, typed on checkpoints in every form that its makers save and on hostile ones."""

from __future__ import annotations

import json
import pickle

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from kinema.cli.app import run as kinema
from kinema.lwm_vision_chat import chat, run
from kinema.models.lwm.vqgan import unflatten
from small_lwm import make_lwm, random_leaves, write_stream
from support.clips import make_clip

STEPS = 5


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """``params``, ``vqgan`` and ``tokenizer.model``, as on the hub."""
    return make_lwm(tmp_path_factory.mktemp("lwm"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=12)


def words(released, file, *more, load=None):
    """The flags of the original's script."""
    return [
        "--prompt=What is the video about?",
        f"--input_file={file}",
        f"--vqgan_checkpoint={released}/vqgan",
        f"--load_checkpoint={load or f'params::{released}/params'}",
        f"--tokenizer={released}/tokenizer.model",
        "--dtype=fp32",
        "--mesh_dim=1,1,-1,1",
        "--max_n_frames=2",
        "--temperature=0",
        f"--max_new_tokens={STEPS}",
        *more,
    ]


def answer(capsys):
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Question: What is the video about?"
    return said[1].removeprefix("Answer: ")


@pytest.mark.slow
def test_l3_every_kind_of_file_answers_alike(released, clip, tmp_path, capsys):
    assert run(chat, words(released, clip)) == 0
    wanted = answer(capsys)
    leaves = random_leaves()
    flat, state = tmp_path / "flax", tmp_path / "state"
    flat.write_bytes(flax.serialization.to_bytes({"params": unflatten(leaves)}))
    write_stream(state, leaves, prefix=("params", "params"))
    for load in (f"flax_params::{flat}", f"trainstate_params::{state}"):
        assert run(chat, words(released, clip, load=load)) == 0
        assert answer(capsys) == wanted


@pytest.mark.slow
def test_l2_pictures_by_every_name(released, tmp_path, capsys):
    """The original sent .jpeg and .PNG to its video reader."""
    picture = Image.fromarray(np.full((40, 60, 3), (200, 30, 30), np.uint8))
    found = []
    for name in ("a.png", "b.PNG"):
        picture.save(tmp_path / name)
        assert run(chat, words(released, tmp_path / name)) == 0
        found.append(answer(capsys))
    assert found[0] == found[1]
    picture.save(tmp_path / "c.jpeg", quality=100)
    assert run(chat, words(released, tmp_path / "c.jpeg")) == 0
    answer(capsys)


class Attack:
    """Opens a file when it is unpickled."""

    def __reduce__(self):
        return (open, ("made-by-pickle", "w"))


def test_l6_a_hostile_pickle_runs_nothing(released, clip, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vqgan").write_bytes(pickle.dumps({"encoder": Attack()}))
    given = [w for w in words(released, clip) if not w.startswith("--vqgan")]
    assert run(chat, [*given, f"--vqgan_checkpoint={tmp_path}/vqgan"]) == 1
    said = capsys.readouterr()
    assert "open" in said.err
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["vqgan"]


@pytest.mark.slow
def test_l4_a_batch_of_prompts_says_what_each_says_alone(released, clip, tmp_path):
    questions = ["What is shown?", "Why is it so?", "Who is there, and what for?"]
    given = ["--model", f"lwm:{released}", "--mesh", "1,1,-1,1", "--num-frames", "2"]
    given += ["--formula", "linspace", "--max-new-tokens", str(STEPS), "--temperature", "0"]

    def answers(name, asked):
        prompts, output = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.out.jsonl"
        rows = [{"video": str(clip), "text": f"<video>\n{question}"} for question in asked]
        prompts.write_text("\n".join(map(json.dumps, rows)))
        assert kinema(["answer", str(prompts), "-o", str(output), *given]) == 0
        return [json.loads(line)["pred_answer"] for line in output.read_text().splitlines()]

    together = answers("together", questions)
    assert len(together) == 3
    assert answers("alone", questions[2:]) == together[2:]
