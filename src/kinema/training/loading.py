"""The model of a run in memory: base weights, then a projector to start from, then the stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
)

import kinema.models.videolm  # noqa: F401  (tells the Auto classes about VideoLM)
from kinema.errors import ModelError
from kinema.families.weights import check_weights
from kinema.models.importers.parts import without_bars
from kinema.models.importers.weights import read_weights
from kinema.training.settings import CONNECTOR, TrainSettings
from kinema.training.stages import apply_stage

_WHOLE = ("full", "layers")
"""Stages whose language model learns in its own weights, which float16 would round away."""


def load_config(folder: Path) -> Any:
    """The configuration of a model folder."""
    return AutoConfig.from_pretrained(folder)


def load_processor(folder: Path) -> Any:
    """The processor of a model folder, padding on the right as training wants it."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "right"
    return processor


def load_learner(folder: Path, settings: TrainSettings) -> Any:
    """The model, everything frozen but what its stage trains.

    Raises:
        ModelError: the folder or the projector to start from does not fit.
        UsageError: the stage does not fit the model.
    """
    model = load_base(folder, dtype=_dtype(settings), quantise=settings.stage.stage == "qlora")
    if settings.model.pretrain_mm_mlp_adapter is not None:
        load_projector(model, settings.model.pretrain_mm_mlp_adapter)
    return apply_stage(model, settings.stage)


def load_base(folder: Path, *, dtype: torch.dtype, quantise: bool = False) -> Any:
    """The weights that training begins with, as they were saved.

    Args:
        folder: a `VideoLM` in Hugging Face layout.
        dtype: of the weights; with ``quantise``, what products are computed in.
        quantise: the language model in nf4 (QLoRA).
    """
    check_weights(folder, verify=False)
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if quantise:
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=[*CONNECTOR, "vision_tower", "lm_head"],
        )
    with without_bars():
        return AutoModelForImageTextToText.from_pretrained(folder, **arguments)


def load_projector(model: Any, path: Path) -> None:
    """Put projector weights of another run, or of Video-ChatGPT's ``mm_projector.bin``, in place.

    Raises:
        ModelError: the file holds no projector, or one of other sizes.
    """
    found = {
        name.rpartition("projector.")[2]: tensor
        for name, tensor in read_weights(path).items()
        if "projector." in name
    }
    expected = model.projector.state_dict()
    if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in expected.items()}:
        held = ", ".join(f"{n} {list(t.shape)}" for n, t in found.items()) or "none"
        wanted = ", ".join(f"{n} {list(t.shape)}" for n, t in expected.items())
        raise ModelError(
            f"The projector of {path.name} is {held}; the model has {wanted}.",
            hint="Choose the projector that it was trained as, and the same tower.",
        )
    model.projector.load_state_dict(found)


def _dtype(settings: TrainSettings) -> torch.dtype:
    if settings.model.dtype != "auto":
        chosen: torch.dtype = getattr(torch, settings.model.dtype)
        return chosen
    if settings.stage.stage in _WHOLE:
        return torch.float32
    if settings.loop.bf16:
        return torch.bfloat16
    return torch.float16 if settings.loop.fp16 else torch.float32
