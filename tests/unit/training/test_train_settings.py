"""The names users know, on the command line and in YAML; what to lower when memory runs out."""

import pytest
import torch
import yaml

from kinema.__main__ import main
from kinema.errors import KinemaError, MissingPackage, OutOfMemory, UnknownName, UsageError
from kinema.training.arguments import training_arguments
from kinema.training.memory import advise, spare_memory
from kinema.training.settings import LoopSettings, TrainSettings, from_flat
from support.training import losses

UPSTREAM = """
--version v1 --tune_mm_mlp_adapter True --mm_use_vid_start_end --bf16 True --num_train_epochs 3
--per_device_train_batch_size 4 --per_device_eval_batch_size 4 --gradient_accumulation_steps 1
--evaluation_strategy no --save_strategy steps --save_steps 3000 --save_total_limit 3
--learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine
--logging_steps 1 --tf32 True --model_max_length 2048 --gradient_checkpointing True
--lazy_preprocess True
"""
"""Video-ChatGPT's own flags, as its training page has them."""


def test_video_chatgpts_command_runs_as_it_is(parts, data, tmp_path, capsys):
    command = [
        *("train", "--model_name_or_path", parts["model_name_or_path"]),
        *("--vision-tower", parts["vision_tower"], "--data_path", str(data)),
        *("--pooling", "cls", "--select-feature", "cls", "--projector", "linear"),
        *("--output_dir", str(tmp_path / "run"), *UPSTREAM.split()),
        *("--use-cpu", "--max-steps", "1"),
    ]
    assert main(command) == 0
    assert "--lazy_preprocess: read and not used" in capsys.readouterr().err
    saved = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert saved["warmup_ratio"] == 0.03
    assert saved["media_wrap"] == "outside"
    assert saved["conv_mode"] == "vicuna_v1_1"
    assert len(losses(tmp_path / "run")) == 1


def test_a_yaml_file_has_the_same_names_and_flags_win(base, data, tmp_path):
    settings = {"model_name_or_path": str(base), "data_path": str(data), "max_steps": 5}
    settings |= {"learning_rate": 1e-3, "use_cpu": True, "save_strategy": "no"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--max-steps", "1"]
    assert main([*words, "--output-dir", str(tmp_path / "run")]) == 0
    saved = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert (saved["max_steps"], saved["learning_rate"]) == (1, 1e-3)


def test_a_typo_in_yaml_is_refused_with_the_nearest_name(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("lerning_rate: 1e-3\n")
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    assert "Did you mean --learning-rate?" in capsys.readouterr().err


def test_further_arguments_of_transformers_are_checked():
    arguments = {"arguments": {"adam_beta2": 0.95}, "use_cpu": True}
    assert training_arguments(LoopSettings(**arguments)).adam_beta2 == 0.95
    with pytest.raises(UnknownName) as caught:
        training_arguments(LoopSettings(arguments={"adam_beta3": 1}))
    assert "'adam_beta" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bf16": True, "fp16": True}, "bf16 and fp16"),
        ({"warmup_ratio": 2.0}, "warmup_ratio"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"eval_strategy": "steps"}, "eval_data_path"),
        ({"stage": "everything"}, "stage"),
        ({"media_wrap": "around"}, "media_wrap 'around'"),
        ({"eval_strategy": "sometimes"}, "eval_strategy 'sometimes'"),
        ({"num_frames": 4, "single": "first"}, "num_frames and single"),
    ],
)
def test_values_that_make_no_sense_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        from_flat(given)


@pytest.mark.parametrize("name", ["wandb", "deepspeed"])
def test_a_missing_logger_or_deepspeed_says_how_to_get_it(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    settings = {"deepspeed": "ds.json"} if name == "deepspeed" else {"report_to": (name,)}
    with pytest.raises(MissingPackage) as caught:
        training_arguments(LoopSettings(**settings))
    assert caught.value.hint == f"Install with: pip install {name}"


def test_memory_that_runs_out_says_what_to_lower_first():
    settings = from_flat({"per_device_train_batch_size": 8, "stage": "full"})
    with (
        pytest.raises(OutOfMemory) as caught,
        spare_memory(settings, uses_videos=True),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
    hint = caught.value.hint
    assert "per_device_train_batch_size 4 gradient_accumulation_steps 2" in hint
    order = ["gradient_checkpointing", "bf16", "features_folder", "stage lora"]
    assert [hint.index(flag) for flag in order] == sorted(hint.index(flag) for flag in order)


def test_advice_leaves_out_what_is_done_already():
    lean = {"per_device_train_batch_size": 1, "gradient_checkpointing": True, "bf16": True}
    advice = advise(from_flat(lean | {"stage": "qlora"}), uses_videos=False)
    assert not any("batch" in a or "bf16" in a or "stage" in a for a in advice)


def test_other_errors_pass_unchanged():
    with (
        pytest.raises(RuntimeError, match="other"),
        spare_memory(TrainSettings(), uses_videos=False),
    ):
        raise RuntimeError("other")


def test_errors_of_transformers_come_out_as_ours():
    with pytest.raises(KinemaError, match="transformers refuses"):
        training_arguments(LoopSettings(lr_scheduler_type="sinus"))
