"""Video NeVA's training YAML and its overrides, in the settings of ``kinema train``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.engines import world_size
from kinema.errors import MissingCapability, UnknownName, UsageError
from kinema.tasks.neva_yaml import (
    ANY,
    NUMBER,
    PAIR,
    PRECISIONS,
    SWITCH,
    TEXT,
    WHOLE,
    Key,
    NevaRequest,
    checked,
    neva_overrides,
    neva_values,
    renamed,
)

_KEYS = {
    "trainer.max_steps": Key(WHOLE, "max_steps"),
    "trainer.log_every_n_steps": Key(WHOLE, "logging_steps"),
    "trainer.gradient_clip_val": Key(NUMBER, "max_grad_norm"),
    "exp_manager.explicit_log_dir": Key(TEXT, "output_dir"),
    "exp_manager.name": Key(TEXT, "run_name"),
    "exp_manager.wandb_logger_kwargs.project": Key(ANY, "project"),
    "exp_manager.wandb_logger_kwargs.name": Key(ANY, "run_name"),
    "exp_manager.checkpoint_callback_params.save_top_k": Key(WHOLE, "save_total_limit"),
    "exp_manager.checkpoint_callback_params.every_n_train_steps": Key(WHOLE, "save_steps"),
    "model.micro_batch_size": Key(WHOLE, "per_device_train_batch_size"),
    "model.seed": Key(WHOLE, "seed"),
    "model.encoder_seq_length": Key(WHOLE, "model_max_length"),
    "model.mm_cfg.vision_encoder.vision_select_layer": Key(ANY, "select_layer"),
    "model.mm_cfg.vision_encoder.vision_select_feature": Key(ANY, "select_feature"),
    "model.mm_cfg.mm_mlp_adapter_type": Key(ANY, "projector"),
    "model.data.video_folder": Key(TEXT, "video_folder"),
    "model.data.num_frames": Key(WHOLE, "num_frames"),
    "model.data.splice_single_frame": Key(ANY, "single"),
    "model.data.conv_template": Key(TEXT, "conv_mode"),
    "model.data.num_workers": Key(WHOLE, "dataloader_num_workers"),
    "model.data.packed_sequence": Key(SWITCH, "packing"),
    "model.optim.lr": Key(NUMBER, "learning_rate"),
    "model.optim.weight_decay": Key(NUMBER, "weight_decay"),
    "model.optim.sched.warmup_steps": Key(WHOLE, "warmup_steps"),
    "trainer.precision": Key(TEXT),
    "trainer.accelerator": Key(ANY),
    "trainer.val_check_interval": Key(ANY),
    "exp_manager.exp_dir": Key(TEXT),
    "exp_manager.create_wandb_logger": Key(SWITCH),
    "exp_manager.create_tensorboard_logger": Key(SWITCH),
    "exp_manager.resume_if_exists": Key(SWITCH),
    "model.global_batch_size": Key(WHOLE),
    "model.restore_from_path": Key(TEXT),
    "model.tensor_model_parallel_size": Key(WHOLE),
    "model.pipeline_model_parallel_size": Key(WHOLE),
    "model.activations_checkpoint_granularity": Key(ANY),
    "model.activations_checkpoint_method": Key(ANY),
    "model.mm_cfg.llm.from_pretrained": Key(TEXT),
    "model.mm_cfg.llm.freeze": Key(SWITCH),
    "model.mm_cfg.llm.model_type": Key(TEXT),
    "model.mm_cfg.vision_encoder.from_pretrained": Key(TEXT),
    "model.mm_cfg.use_im_start_end": Key(SWITCH),
    "model.data.data_path": Key(ANY),
    "model.data.image_aspect_ratio": Key(TEXT),
    "model.data.sep_image_conv_front": Key(SWITCH),
    "model.optim.betas": Key(PAIR),
    "model.optim.sched.name": Key(TEXT),
    "model.optim.sched.min_lr": Key(NUMBER),
}
_OF_THE_LAUNCH = ("cluster_type", "trainer.devices", "trainer.num_nodes")
"""What documented commands say about machines; torchrun says it here."""
_TOKENS = {
    "llama_3": tuple(f"<|reserved_special_token_{i}|>" for i in (3, 4, 5)),
    "": ("<extra_id_3>", "<extra_id_4>", "<extra_id_5>"),
}
"""Patch, start and end token by the language model's type."""
_REFERENCE = re.compile(r"\$\{(\.?[\w.]+)\}")
_NEW_ONLY = ("select_layer", "select_feature", "projector", "media_wrap", "media_tokens",
             "frame_aspect_ratio", "pooling", "vision_tower")  # fmt: skip


def read_neva_training(path: Path, overrides: Sequence[str]) -> NevaRequest:
    """Read ``video_neva_config.yaml`` and its relatives with Hydra-style overrides.

    Raises:
        UsageError: the file is not YAML, or a value is not allowed.
        UnknownName: an override names a key that nothing reads.
        MissingCapability: something that nothing here can do.
    """
    from_file, given = neva_values(path), neva_overrides(overrides)
    for key in given:
        if key not in (*_KEYS, *from_file, *_OF_THE_LAUNCH):
            raise UnknownName("NeVA key", key, _KEYS)
    values = _resolved(from_file | given)
    read = checked({key: values[key] for key in _KEYS if key in values}, _KEYS)
    settings = renamed(read, _KEYS)
    settings["stage"] = "projector" if read.get("model.mm_cfg.llm.freeze", True) else "full"
    for part in (_model, _data, _batch, _loop, _optimiser):
        settings |= part(read)
    if "model.restore_from_path" in read:
        settings = {name: v for name, v in settings.items() if name not in _NEW_ONLY}
    if "single" in settings:
        settings.pop("num_frames", None)
    elif "num_frames" in settings:
        settings["formula"] = "linspace"
    dead = sorted(key for key, v in values.items() if key not in _KEYS and v not in (None, ""))
    return NevaRequest(settings, _notes(dead, read))


def _resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with ``${a.b}`` and ``${.b}`` replaced by what they name."""

    def resolve(key: str, value: Any, passed: tuple[str, ...] = ()) -> Any:
        if key in passed:
            raise UsageError(f"{key} refers to itself: {value}.", hint="Give it a value.")
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        name = found[1]
        target = f"{key.rpartition('.')[0]}{name}" if name.startswith(".") else name
        return resolve(target, values.get(target), (*passed, key))

    return {key: resolve(key, value) for key, value in values.items()}


def _model(read: Mapping[str, Any]) -> dict[str, Any]:
    restored = read.get("model.restore_from_path")
    if restored:
        return {"model_name_or_path": f"neva:{restored}"}
    kind = str(read.get("model.mm_cfg.llm.model_type", ""))
    settings: dict[str, Any] = {
        "pooling": "frames",
        "media_tokens": _TOKENS.get(kind, _TOKENS[""]),
        "media_wrap": "outside" if read.get("model.mm_cfg.use_im_start_end") else "inside",
        "conv_mode": read.get("model.data.conv_template") or kind or "nvgpt",
    }
    for key, ours in (
        ("model.mm_cfg.llm.from_pretrained", "model_name_or_path"),
        ("model.mm_cfg.vision_encoder.from_pretrained", "vision_tower"),
    ):
        if key in read:
            settings[ours] = str(read[key])
    return settings


def _data(read: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    path = read.get("model.data.data_path")
    if isinstance(path, list):
        if len(path) != 1:
            raise MissingCapability(
                f"data_path names {len(path)} files, which NeVA blends.",
                hint="Put them into one file with kinema data convert.",
            )
        path = path[0]
    if path:
        settings["data_path"] = path
    aspect = read.get("model.data.image_aspect_ratio", "square")
    if aspect not in ("square", "pad"):
        raise MissingCapability(
            f"image_aspect_ratio={aspect} works for single pictures alone.",
            hint="Use square or pad.",
        )
    if read.get("model.data.sep_image_conv_front"):
        raise MissingCapability(
            "sep_image_conv_front moves the video out of the question.",
            hint="Put the video first in the data instead.",
        )
    return settings | {"frame_aspect_ratio": aspect}


def _batch(read: Mapping[str, Any]) -> dict[str, Any]:
    micro: int = read.get("model.micro_batch_size", 1)
    whole: int = read.get("model.global_batch_size", micro * world_size())
    if micro < 1:
        raise UsageError(f"model.micro_batch_size is {micro}.", hint="Give 1 or more.")
    steps, rest = divmod(whole, micro * world_size())
    if rest or not steps:
        raise UsageError(
            f"global_batch_size {whole} is no multiple of micro_batch_size {micro} times "
            f"{world_size()} processes.",
            hint="Change one of them, or the number of processes of torchrun.",
        )
    return {"per_device_train_batch_size": micro, "gradient_accumulation_steps": steps}


def _loop(read: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"use_cpu": read.get("trainer.accelerator") == "cpu"}
    precision = PRECISIONS[str(read.get("trainer.precision", "bf16"))]
    settings |= {
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "gradient_checkpointing": "model.activations_checkpoint_granularity" in read
        or "model.activations_checkpoint_method" in read,
    }
    if "exp_manager.exp_dir" in read and "exp_manager.explicit_log_dir" not in read:
        name = read.get("exp_manager.name", "run")
        settings["output_dir"] = str(Path(str(read["exp_manager.exp_dir"])) / str(name))
    if read.get("exp_manager.resume_if_exists") is False:
        settings["resume_from_checkpoint"] = "none"
    loggers = {"tensorboard": "tensorboard", "wandb": "wandb"}
    settings["report_to"] = [
        ours for name, ours in loggers.items() if read.get(f"exp_manager.create_{name}_logger")
    ]
    return settings


def _optimiser(read: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    settings: dict[str, Any] = {"arguments": arguments}
    if betas := read.get("model.optim.betas"):
        arguments |= {"adam_beta1": betas[0], "adam_beta2": betas[1]}
    if read.get("model.optim.sched.name") == "CosineAnnealing":
        settings["lr_scheduler_type"] = "cosine_with_min_lr"
        arguments["lr_scheduler_kwargs"] = {"min_lr": read.get("model.optim.sched.min_lr", 0.0)}
    return settings


def _notes(dead: list[str], read: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if dead:
        notes.append(f"not used here: {', '.join(dead)}")
    widths = ("model.tensor_model_parallel_size", "model.pipeline_model_parallel_size")
    if any(read.get(name, 1) > 1 for name in widths):
        notes.append("layers are not split over processes: use --fsdp where a model is too large")
    if "trainer.val_check_interval" in read:
        notes.append("NeVA evaluates on its training data; --eval-data-path measures on other data")
    return tuple(notes)
