"""Every setting of a training run, under the names that Hugging Face and Video-ChatGPT use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from kinema.config import choices_of
from kinema.errors import UnknownName, UsageError
from kinema.types import Formula

Stage = Literal["projector", "lora", "qlora", "full", "layers"]
RunPart = Literal["projector", "adapter", "model"]
"""What can be taken out of a run."""
CONNECTOR = ("positions", "projector", "fusion")
"""Modules of a VideoLM between tower and language model; a model need not have all."""
TooLong = Literal["refuse", "skip", "cut"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What is trained: a VideoLM, or a tower and a language model to be joined to one."""

    model_name_or_path: str | None = None
    """A model folder; with --vision-tower, a language model that a connector is put before."""
    vision_tower: str | None = None
    """CLIP, SigLIP or timm folder, or efficientnet_lite0: makes a new VideoLM of it and --model."""
    conv_mode: str | None = None
    """Conversation template, instead of the model's own; vicuna_v1_1 for a new VideoLM."""
    pretrain_mm_mlp_adapter: Path | None = None
    """Projector weights to start from: mm_projector.bin or safetensors."""
    projector: str | None = None
    """New VideoLM: linear, mlp2x_gelu, mlp_downsample, resampler."""
    pooling: str | None = None
    """New VideoLM: frames, spatio_temporal, cls or grid; as the features are when left out."""
    select_layer: int | None = None
    """New VideoLM: hidden state of the tower, -1 the last."""
    select_feature: str | None = None
    """New VideoLM: patch, cls_patch or cls."""
    time: str | None = None
    """New VideoLM: none, learned (a vector a frame) or timestamps."""
    fusion: str | None = None
    """New VideoLM: splice, layer_bias (the Breakfast fork) or cross_attention."""
    max_frames: int | None = None
    """New VideoLM: rows of the learned times, and the exact count of layer_bias."""
    media_wrap: Literal["outside", "inside", "none"] | None = None
    """New VideoLM: start and end token stand around the visual tokens, take their places, or no."""
    media_tokens: tuple[str, ...] = ()
    """New VideoLM: patch, start and end token; added where the tokenizer lacks them."""
    frame_aspect_ratio: Literal["square", "pad", "stretch"] | None = None
    """New VideoLM: cut the middle out, pad to a square, or stretch."""
    dtype: Dtype = "auto"
    """Format of frozen weights; what is trained stays in float32 unless everything is."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learned from."""

    data_path: Path | None = None
    """Samples, one JSON record a line: `kinema data convert` writes them."""
    eval_data_path: Path | None = None
    """Samples that the loss is measured on and nothing is learned from."""
    video_folder: Path | None = None
    """Where the media of the samples lie, instead of beside the data file."""
    features_folder: Path | None = None
    """Features of the media, written by `kinema features`: no video is decoded."""
    num_frames: int | None = None
    """Frames of each video, instead of the model's own sampling."""
    formula: Formula | None = None
    """How --num-frames becomes positions: linspace takes both ends, as Video NeVA does."""
    single: Literal["first", "middle", "last"] | None = None
    """One frame of each video."""
    model_max_length: int | None = None
    """Tokens of the longest sample, visual ones included; the model's context when left out."""
    too_long: TooLong = "refuse"
    """What happens to longer samples: refuse to start, skip them, or cut their end."""
    packing: bool = False
    """Fill rows of model_max_length with several samples that do not see each other."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """Which weights learn."""

    stage: Stage = "projector"
    """projector; lora (and the projector); qlora (nf4); full; layers (the Breakfast fork's)."""
    lora_r: int = 16
    """Rank of the adapters."""
    lora_alpha: int = 32
    """Their scale times their rank."""
    lora_dropout: float = 0.0
    """Share of their inputs that is dropped."""
    lora_target_modules: tuple[str, ...] = ()
    """Names of linear layers that get one; all of the language model when empty."""
    train_layers: tuple[int, ...] = (0, -1)
    """With layers: decoder layers that learn, -1 the last."""
    tune_vision_tower: bool = False
    """With full: the vision tower learns too."""
    tune_media_tokens: bool = False
    """With projector: the embeddings of start and end token learn too."""
    freeze_mm_mlp_adapter: bool = False
    """Keep the projector as it is."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How it learns: fields of transformers' TrainingArguments."""

    output_dir: Path = Path("run")
    """Checkpoints, log, plot and result."""
    max_steps: int = -1
    """Optimiser steps; overrides num_train_epochs when positive."""
    num_train_epochs: float = 3.0
    """Times that every sample is seen."""
    per_device_train_batch_size: int = 8
    """Rows in one forward pass of one process."""
    per_device_eval_batch_size: int = 8
    """The same, for evaluation."""
    gradient_accumulation_steps: int = 1
    """Forward passes for one optimiser step."""
    learning_rate: float = 5e-5
    """The highest learning rate."""
    weight_decay: float = 0.0
    """AdamW's."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rate rises."""
    warmup_steps: int = 0
    """The same as a number of steps."""
    lr_scheduler_type: str = "linear"
    """linear, cosine, constant, constant_with_warmup, cosine_with_min_lr, ..."""
    optim: str = "adamw_torch"
    """The optimiser, by transformers' names."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    bf16: bool = False
    """Compute in bfloat16."""
    fp16: bool = False
    """Compute in float16, losses scaled."""
    tf32: bool = False
    """Matrix products in TF32, on NVIDIA GPUs from Ampere on."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When the evaluation loss is measured."""
    eval_steps: int | None = None
    """Steps between evaluations; logging_steps when left out."""
    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    """When a checkpoint is written."""
    save_steps: int = 500
    """Steps between checkpoints."""
    save_total_limit: int | None = None
    """Checkpoints that are kept, the best one among them."""
    load_best_model_at_end: bool = False
    """The result is the checkpoint with the lowest evaluation loss."""
    logging_steps: int = 10
    """Steps between lines of the log."""
    report_to: tuple[str, ...] = ()
    """tensorboard, wandb, ..."""
    run_name: str | None = None
    """The run's name in Weights & Biases."""
    project: str = "kinema"
    """The project's name in Weights & Biases."""
    seed: int = 42
    """Of the order of samples, dropout and new weights."""
    dataloader_num_workers: int = 0
    """Processes that read media."""
    deepspeed: str | None = None
    """A DeepSpeed configuration, JSON."""
    fsdp: bool = False
    """Shard the model over the processes of torchrun."""
    fsdp_config: str | None = None
    """Settings of the sharding, JSON."""
    use_cpu: bool = False
    """Train on the CPU although there is a GPU."""
    resume_from_checkpoint: str | None = None
    """A checkpoint folder; the newest whole one in output_dir when left out; none to start over."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further fields of TrainingArguments: --arguments.adam_beta2 0.95."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A whole run."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    stage: StageSettings = StageSettings()
    loop: LoopSettings = LoopSettings()

    def __post_init__(self) -> None:
        loop = self.loop
        for holds, given, allowed in (
            (
                self.data.num_frames is None or self.data.single is None,
                "num_frames and single",
                "one",
            ),
            (not (loop.warmup_ratio and loop.warmup_steps), "warmup_ratio and warmup_steps", "one"),
            (not (loop.bf16 and loop.fp16), "bf16 and fp16", "one"),
            (0 <= loop.warmup_ratio < 1, f"warmup_ratio {loop.warmup_ratio}", "0 to below 1"),
            (loop.learning_rate > 0, f"learning_rate {loop.learning_rate}", "above 0"),
            (self.stage.lora_r > 0, f"lora_r {self.stage.lora_r}", "above 0"),
            (
                self.data.eval_data_path is not None
                or (loop.eval_strategy == "no" and not loop.load_best_model_at_end),
                "an evaluation without eval_data_path",
                "samples to measure on",
            ),
        ):
            if not holds:
                raise UsageError(f"{given}: {allowed} is allowed.", hint="See kinema train --help.")

    @property
    def sampling(self) -> dict[str, Any]:
        """Fields of a FrameSampling, where the frames of videos were chosen."""
        count, formula = self.data.num_frames, self.data.formula
        chosen: dict[str, Any] = {"num_frames": count, "single": self.data.single}
        chosen |= {"formula": formula} if count is not None else {}
        return {name: value for name, value in chosen.items() if value is not None}

    def flat(self) -> dict[str, Any]:
        """Every field by its own name, ready for YAML."""
        merged = {k: v for group in GROUPS for k, v in asdict(getattr(self, group)).items()}
        return {name: _plain(value) for name, value in merged.items()}


GROUPS: Mapping[str, type[Any]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "stage": StageSettings,
    "loop": LoopSettings,
}


def from_flat(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from one flat mapping, as it stands in a YAML file.

    Raises:
        UnknownName: a key that does not exist; the nearest one is suggested.
        UsageError: a value that is not allowed.
    """
    known = {f.name: group for group, kind in GROUPS.items() for f in fields(kind)}
    by_group: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name, value in values.items():
        if name not in known:
            raise UnknownName("training setting", name, known)
        by_group[known[name]][name] = _typed(name, value)
    return TrainSettings(**{g: GROUPS[g](**given) for g, given in by_group.items()})


_HINTS = {n: hint for kind in GROUPS.values() for n, hint in get_type_hints(kind).items()}
_CHOICES = {n: words for kind in GROUPS.values() for n, words in choices_of(kind).items()}


def _typed(name: str, value: Any) -> Any:
    """What YAML writes as text or list in the field's own type."""
    if name in _CHOICES and value is not None and value not in _CHOICES[name]:
        raise UnknownName(name, str(value), _CHOICES[name])
    kinds = {_HINTS[name], *get_args(_HINTS[name])}
    if Path in kinds:
        return None if value is None else Path(value)
    if get_origin(_HINTS[name]) is tuple:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    if float in kinds:  # YAML 1.1 reads 2e-5 as text
        return float(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
