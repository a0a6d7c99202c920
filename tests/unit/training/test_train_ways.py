"""Ways to the same losses: videos or features, accumulation, checkpointing; and the best step."""

import json

import pytest
import torch

from kinema.datasets.samples import features_name
from kinema.errors import UsageError
from kinema.models.importers.parts import without_bars
from kinema.models.videolm.features import FeaturesHeader, read_header, save_features
from kinema.tasks.train import find_base
from kinema.training.loading import load_base, load_config, load_processor
from kinema.training.results import merge
from kinema.training.settings import from_flat
from kinema.video import load_frames
from support.clips import make_clip
from support.training import losses, run_training


@pytest.fixture(scope="module")
def videos(base, tmp_path_factory):
    """A data file over two videos, and a folder with their features."""
    folder = tmp_path_factory.mktemp("videos")
    model, processor = load_base(base, dtype=torch.float32), load_processor(base)
    lines = []
    for i, name in enumerate(("a.mp4", "b.mp4")):
        make_clip(folder / name, num_frames=20 + 10 * i)
        frames = load_frames(folder / name, num_frames=4)
        pixels = processor(text="<video>", videos=[frames.pixels])["pixel_values"]
        with torch.no_grad():
            features = model.encode(pixels, torch.tensor([4]))
        path = folder / "features" / features_name(folder / name).name
        path.parent.mkdir(exist_ok=True)
        header = FeaturesHeader.for_config(model.config, num_frames=4)
        save_features(path, features, header)
        asked = [{"type": "video", "path": name}, {"type": "text", "text": "What?"}]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"A {name}"}]
        lines.append(json.dumps({"id": name, "messages": turns}))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def test_features_and_videos_have_the_same_losses(base, videos, tmp_path):
    given = {"model_name_or_path": str(base), "data_path": videos / "train.jsonl", "max_steps": 3}
    given |= {"num_frames": 4}
    run_training(tmp_path / "videos", **given)
    run_training(tmp_path / "features", **given, features_folder=videos / "features")
    assert losses(tmp_path / "videos") == pytest.approx(losses(tmp_path / "features"), abs=1e-5)


def test_features_of_the_whole_video_do_not_stand_for_a_part_of_it(base, videos, tmp_path):
    sample = json.loads((videos / "train.jsonl").read_text().splitlines()[0])
    sample["messages"][0]["content"][0] |= {"start": 0.2, "end": 0.4}
    data = videos / "ranges.jsonl"
    data.write_text(json.dumps(sample))
    with pytest.raises(UsageError, match="another range"):
        run_training(
            tmp_path / "run",
            model_name_or_path=str(base),
            data_path=data,
            features_folder=videos / "features",
        )


def test_a_new_model_has_the_tower_settings_of_its_features(parts, videos):
    given = {name: parts[name] for name in ("model_name_or_path", "vision_tower")}
    given |= {"data_path": videos / "train.jsonl", "features_folder": videos / "features"}
    config = load_config(find_base(from_flat(given)).folder)
    header = read_header(videos / "features" / "a.mp4.safetensors")
    header.check(config)
    assert config.pooling == "cls"


def test_tensorboard_gets_the_losses(base, data, tmp_path):
    pytest.importorskip("tensorboard")
    given = {"model_name_or_path": str(base), "data_path": data, "max_steps": 1}
    run_training(tmp_path / "run", **given, report_to=["tensorboard"])
    written = b"".join(f.read_bytes() for f in (tmp_path / "run").rglob("events.out.*"))
    assert b"train/loss" in written


@pytest.mark.parametrize(
    "way",
    [
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 4, "gradient_checkpointing": True},
    ],
    ids=["accumulated", "checkpointed"],
)
def test_the_losses_do_not_depend_on_how_memory_is_saved(way, base, data, tmp_path):
    given = {"model_name_or_path": str(base), "data_path": data, "max_steps": 3, "stage": "lora"}
    run_training(tmp_path / "plain", **given, per_device_train_batch_size=4)
    run_training(tmp_path / "other", **given | way)
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "plain"), abs=1e-5)


def test_bfloat16_learns_in_float32(base, data, tmp_path):
    given = {"model_name_or_path": str(base), "data_path": data, "max_steps": 3}
    run_training(tmp_path / "plain", **given)
    run_training(tmp_path / "bf16", **given, bf16=True)
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "plain"), rel=0.02)


@pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")
def test_qlora_learns_and_merges_into_whole_weights(base, data, tmp_path):
    pytest.importorskip("bitsandbytes")
    run_training(
        tmp_path / "run",
        model_name_or_path=str(base),
        data_path=data,
        stage="qlora",
        max_steps=6,
    )
    found = losses(tmp_path / "run")
    assert found[-1] < found[0]
    with without_bars():
        merge(tmp_path / "run", tmp_path / "model")
    assert load_base(tmp_path / "model", dtype=torch.float32).config.text_config.vocab_size == 262


def test_the_best_checkpoint_is_the_result_and_stays(base, data, tmp_path):
    strange = [json.loads(line) for line in data.read_text().splitlines()]
    for sample in strange:  # the more is learned, the less likely are these
        sample["messages"] = [sample["messages"][0], {"role": "assistant", "content": "QQQQ"}]
    (tmp_path / "strange.jsonl").write_text("\n".join(map(json.dumps, strange)))
    given = {"model_name_or_path": str(base), "data_path": data}
    given |= {"eval_data_path": tmp_path / "strange.jsonl", "eval_strategy": "steps"}
    given |= {"eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    given |= {"stage": "full", "max_steps": 8, "save_total_limit": 2}
    run_training(tmp_path / "run", **given, load_best_model_at_end=True)
    state = json.loads((tmp_path / "run" / "checkpoint-8" / "trainer_state.json").read_text())
    measured = {e["step"]: e["eval_loss"] for e in state["log_history"] if "eval_loss" in e}
    best = min(measured, key=measured.get)
    assert best < 8
    kept = {folder.name for folder in (tmp_path / "run").glob("checkpoint-*")}
    assert kept == {f"checkpoint-{best}", "checkpoint-8"}
    held = (tmp_path / "run" / f"checkpoint-{best}" / "model.safetensors").read_bytes()
    assert (tmp_path / "run" / "trained" / "model.safetensors").read_bytes() == held
