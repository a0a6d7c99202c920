"""A run learns what its stage says, keeps it small, and makes a model of it."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from kinema.errors import UnknownName, UsageError
from kinema.tasks.train import train
from kinema.training.adapters import old_names
from kinema.training.results import export, merge
from kinema.training.settings import from_flat
from support.training import losses, run_training

LEARNS = {
    "projector": {"projector"},
    "lora": {"projector", "language_model"},
    "layers": {"projector", "language_model"},
    "full": {"projector", "language_model"},
}


@pytest.fixture(scope="session", params=LEARNS)
def run(request, base, data, tmp_path_factory):
    """A run of each stage, and its stage."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    run_training(
        folder,
        model_name_or_path=str(base),
        data_path=data,
        stage=request.param,
        max_steps=6,
        save_strategy="steps",
        save_steps=3,
    )
    return folder, request.param


def test_the_loss_falls_and_is_written_down(run):
    folder, _ = run
    found = losses(folder)
    assert len(found) == 6
    assert found[-1] < found[0]
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_keeps_no_frozen_weights(run, base):
    folder, stage = run
    frozen = base.stat().st_size
    for held in (folder / "trained", folder / "checkpoint-3"):
        names = [n for f in held.glob("*.safetensors") for n in safe_open(f, "pt").keys()]  # noqa: SIM118
        assert any("projector" in name for name in names)
        assert not any("vision_tower" in name for name in names)
        assert not (held / "config.json").exists()
        if stage == "projector":
            assert all(name.startswith("projector.") for name in names)
    assert frozen


def test_merging_changes_exactly_what_learned(run, base, tmp_path):
    folder, stage = run
    merge(folder, tmp_path / "model")
    before = AutoModelForImageTextToText.from_pretrained(base).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").state_dict()
    assert before.keys() == after.keys()
    changed = {name.partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == LEARNS[stage]


def test_the_chosen_layers_learn_and_no_other(base, data, tmp_path):
    run_training(
        tmp_path / "run",
        model_name_or_path=str(base),
        data_path=data,
        stage="layers",
        train_layers=[0, -1],
        max_steps=1,
    )
    held = load_file(tmp_path / "run" / "trained" / "model.safetensors")
    layers = {n.split("layers.")[1].split(".")[0] for n in held if "layers." in n}
    assert layers == {"0", "3"}
    assert {"language_model.lm_head.weight", "language_model.model.norm.weight"} <= set(held)


def test_the_projector_can_be_taken_out_and_begun_with(run, base, data, tmp_path):
    folder, _ = run
    file = export(folder, tmp_path / "projector.safetensors", what="projector")
    merge(folder, tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert load_file(file)["projector.weight"].equal(model.projector.weight)
    run_training(
        tmp_path / "next",
        model_name_or_path=str(base),
        data_path=data,
        pretrain_mm_mlp_adapter=file,
        learning_rate=1e-12,
        max_steps=1,
    )
    kept = load_file(tmp_path / "next" / "trained" / "model.safetensors")
    torch.testing.assert_close(kept["projector.weight"], model.projector.weight)


def test_a_merged_model_answers_like_the_run_that_made_it(base, data, tmp_path):
    run_training(
        tmp_path / "run", model_name_or_path=str(base), data_path=data, stage="lora", max_steps=3
    )
    merge(tmp_path / "run", tmp_path / "model")
    plain = AutoModelForImageTextToText.from_pretrained(base)
    with old_names():
        adapted = PeftModel.from_pretrained(plain, str(tmp_path / "run" / "trained")).eval()
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    ids = torch.arange(6, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-4)


def test_resuming_under_other_settings_is_refused(base, data, tmp_path):
    given = {
        "model_name_or_path": str(base),
        "data_path": data,
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 1,
    }
    run_training(tmp_path / "run", **given)
    with pytest.raises(UsageError, match="holds a run with learning_rate"):
        run_training(tmp_path / "run", **given | {"learning_rate": 1e-3})


def test_long_samples_are_named_skipped_or_cut(base, data, tmp_path):
    given = {"model_name_or_path": str(base), "data_path": data, "max_steps": 1}
    with pytest.raises(UsageError, match=r"longer than 260 tokens.*s\d+ \(line \d+\)"):
        run_training(tmp_path / "a", **given, model_max_length=260)
    skipped = run_training(tmp_path / "b", **given, model_max_length=260, too_long="skip")
    cut = run_training(tmp_path / "c", **given, model_max_length=260, too_long="cut")
    assert skipped.tokens < cut.tokens


def test_unknown_settings_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownName) as caught:
        from_flat({"lerning_rate": 1})
    assert "'learning_rate'" in caught.value.hint


def test_training_wants_data_and_a_model(base):
    with pytest.raises(UsageError, match="no data file"):
        train(from_flat({"model_name_or_path": str(base)}))


def test_settings_are_saved_as_they_were_read(run):
    folder, stage = run
    import yaml

    saved = from_flat(yaml.safe_load((folder / "settings.yaml").read_text()))
    assert saved.stage.stage == stage
    assert saved.loop.output_dir == folder
    assert json.loads((folder / "base.json").read_text())["folder"]
