"""Video NeVA's own training YAML runs, and what it says in vain is named."""

import pytest
import yaml

from kinema.__main__ import main
from kinema.errors import MissingCapability, UnknownName, UsageError
from kinema.models.importers.parts import read_tokenizer
from kinema.models.videolm import VideoLMConfig
from kinema.tasks.neva_training import read_neva_training
from kinema.tasks.train import find_base
from kinema.training.settings import from_flat
from support.training import losses, write_data, write_features


def neva_config(parts, data, output) -> dict:
    """The essential values of ``video_neva_config.yaml``, over a tiny tower and LLaMA."""
    return {
        "trainer": {
            "devices": 8, "num_nodes": 1, "accelerator": "cpu", "precision": "32",
            "max_steps": 10000, "log_every_n_steps": 1, "val_check_interval": 100,
            "limit_val_batches": 50, "gradient_clip_val": 1.0, "accumulate_grad_batches": 1,
        },
        "exp_manager": {
            "explicit_log_dir": str(output), "name": "nemo_video_neva",
            "create_wandb_logger": False, "resume_if_exists": True,
            "checkpoint_callback_params": {"save_top_k": 10},
        },
        "model": {
            "micro_batch_size": 2, "global_batch_size": 4, "seed": 1234, "encoder_seq_length": 2048,
            "num_layers": 32, "mcore_gpt": True,
            "mm_cfg": {
                "llm": {"from_pretrained": parts["model_name_or_path"], "freeze": True,
                        "model_type": "llama_2"},
                "vision_encoder": {"from_pretrained": parts["vision_tower"], "from_hf": True,
                                   "vision_select_layer": -2, "class_token_length": 1},
                "pretrain_mm_mlp_adapter": None,
                "mm_mlp_adapter_type": "linear", "use_im_start_end": False,
            },
            "tokenizer": {"library": "sentencepiece", "model": None},
            "data": {
                "data_path": str(data), "lazy_preprocess": True, "media_type": "video",
                "num_frames": 8, "sep_token_between_frames": False, "image_aspect_ratio": "square",
                "conv_template": "${model.mm_cfg.llm.model_type}", "video_folder": None,
                "num_workers": 0, "image_token_len": 256,
            },
            "optim": {
                "name": "fused_adam", "lr": 2e-3, "weight_decay": 0.0, "betas": [0.9, 0.95],
                "sched": {"name": "CosineAnnealing", "warmup_steps": 140, "min_lr": 2e-4},
            },
        },
    }  # fmt: skip


@pytest.fixture
def config_file(parts, data, tmp_path):
    path = tmp_path / "video_neva_config.yaml"
    path.write_text(yaml.safe_dump(neva_config(parts, data, tmp_path / "run")))
    return path


def test_keys_that_mean_something_are_read(config_file, parts):
    asked = read_neva_training(config_file, [])
    settings = from_flat(asked.settings)
    assert settings.stage.stage == "projector"
    assert settings.loop.learning_rate == 2e-3
    assert settings.loop.gradient_accumulation_steps == 2
    assert settings.loop.warmup_steps == 140
    assert settings.loop.arguments["adam_beta2"] == 0.95
    assert settings.loop.arguments["lr_scheduler_kwargs"] == {"min_lr": 2e-4}
    assert settings.data.num_frames == 8
    assert settings.model.conv_mode == "llama_2"
    assert settings.model.media_wrap == "inside"
    assert settings.model.vision_tower == parts["vision_tower"]


def test_overrides_win(config_file):
    words = ["model.mm_cfg.use_im_start_end=True", "++model.mm_cfg.llm.freeze=false"]
    words += ["model.mm_cfg.llm.model_type=v1", "+trainer.precision=bf16"]
    settings = from_flat(read_neva_training(config_file, words).settings)
    assert settings.model.media_wrap == "outside"
    assert settings.model.conv_mode == "v1"
    assert settings.stage.stage == "full"
    assert settings.loop.bf16


def test_dead_keys_are_named(config_file):
    (dead, *_) = read_neva_training(config_file, []).notes
    for key in ("data.lazy_preprocess", "data.image_token_len", "data.sep_token_between_frames"):
        assert f"model.{key}" in dead
    assert "model.num_layers" in dead
    assert "model.optim.lr" not in dead


def test_a_typo_in_an_override_is_refused_with_the_nearest_key(config_file):
    with pytest.raises(UnknownName) as caught:
        read_neva_training(config_file, ["model.optim.lrr=1"])
    assert "'model.optim.lr'" in caught.value.hint


def test_what_cannot_be_done_is_refused(config_file):
    with pytest.raises(MissingCapability, match="blends"):
        read_neva_training(config_file, ["model.data.data_path=[a.json, b.json]"])
    with pytest.raises(UsageError, match="no multiple"):
        read_neva_training(config_file, ["model.global_batch_size=5"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "model.micro_batch_size=two",
            "model.micro_batch_size is 'two'; it must be a whole number",
        ),
        ("model.micro_batch_size=0", "model.micro_batch_size is 0"),
        ("model.optim.betas=0.9", "model.optim.betas is 0.9; it must be a list of two numbers"),
        ("model.optim.betas=[0.9]", r"model.optim.betas is \[0.9\]"),
        ("model.optim.sched.min_lr=low", "model.optim.sched.min_lr is 'low'; it must be a number"),
        ("model.mm_cfg.llm.freeze=7", "model.mm_cfg.llm.freeze is 7; it must be True or False"),
        ("model.seed=${model.seed}", "model.seed refers to itself"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_is_allowed(config_file, override, said):
    with pytest.raises(UsageError, match=said):
        read_neva_training(config_file, [override])


def test_a_new_model_has_nevas_tokens_and_no_begin_mark(config_file):
    settings = from_flat(read_neva_training(config_file, []).settings)
    base = find_base(settings)
    config = VideoLMConfig.from_pretrained(base.folder)
    tokens = read_tokenizer(base.folder).convert_ids_to_tokens(config.visual_token_ids)
    assert tokens == ["<extra_id_3>", "<extra_id_4>", "<extra_id_5>"]
    assert config.layout.wrap == "inside"


def test_the_command_trains(config_file, parts, tmp_path, capsys):
    settings = from_flat(read_neva_training(config_file, []).settings)
    config = VideoLMConfig.from_pretrained(find_base(settings).folder)
    features = write_features(tmp_path / "features", config)
    data = write_data(tmp_path / "neva.jsonl", features)
    words = [f"model.data.data_path={data}", "trainer.max_steps=2", "model.optim.lr=1e-2"]
    status = main(["train", "--neva", str(config_file), *words, "--save-strategy", "no"])
    assert status == 0
    assert len(losses(tmp_path / "run")) == 2
    assert "not used here: " in capsys.readouterr().err
