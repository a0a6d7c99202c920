"""A checkpoint folder becomes a processor and a model, safely."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.distributed import DistributedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from kinema.engines.base import world_size
from kinema.engines.failures import first_line
from kinema.engines.hf.errors import is_device_lost, is_out_of_memory
from kinema.engines.hf.features import cache_features
from kinema.engines.hf.grouped import group_heads
from kinema.engines.hf.mrope import follow_training_positions
from kinema.engines.hf.packing import pack_linears
from kinema.engines.hf.quantisation import quantization_config, refuse_saving_after_forward
from kinema.engines.settings import HFSettings
from kinema.errors import EngineDied, ModelError, OutOfMemory
from kinema.families import Family
from kinema.families.weights import check_no_code, check_weights
from kinema.identity import identity_of
from kinema.lazy import require_packages
from kinema.models.padding import with_padding


def load(
    folder: Path, *, family: Family, settings: HFSettings, device: torch.device
) -> tuple[Any, Any]:
    """The processor and the model of a checkpoint folder, ready to be called.

    Raises:
        UnsafeModel: that would unpickle objects or run the checkpoint's code.
        MissingPackage: an option needs a package that is not installed.
        OutOfMemory: the device has no room for the weights.
        ModelError: the folder is not whole, or transformers cannot load it.
    """
    _check(folder, family, settings)
    if family.classes:
        importlib.import_module(family.classes)
    with quiet(), _load_errors(folder):
        processor = _load_processor(folder, settings)
        model = _load_model(folder, settings, device)
        if settings.adapter:
            require_packages("--adapter", ["peft"])
            from kinema.engines.hf.adapters import add_adapter  # noqa: PLC0415  an extra

            add_adapter(model, Path(settings.adapter).expanduser())
    follow_training_positions(model)
    if not settings.compile and world_size() == 1:
        pack_linears(model)
        group_heads(model)
    if settings.quantization == "bnb-4bit":
        refuse_saving_after_forward(model)
    if settings.cache:
        weights = _weights_name(folder, model, settings.adapter)
        cache_features(model, Path(settings.cache).expanduser(), weights=weights)
    return processor, model.eval()


def context_length(config: Any) -> int | None:
    """Tokens that a model's text part can hold, None where it does not say."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def _check(folder: Path, family: Family, settings: HFSettings) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    known = bool(family.classes) or config.get("model_type") in CONFIG_MAPPING_NAMES
    check_no_code(folder.name, config, known=known or settings.trust_remote_code)
    check_weights(folder, verify=settings.verify)
    if settings.attn == "flash_attention_2":
        install = "pip install flash-attn --no-build-isolation. Or use --attn sdpa."
        require_packages("--attn flash_attention_2", ["flash_attn"], install=install)


def _load_processor(folder: Path, settings: HFSettings) -> Any:
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    with_padding(processor.tokenizer).padding_side = "left"
    video: Any = getattr(processor, "video_processor", None)
    if getattr(video, "cap_pixels_per_frame", False) is None:
        video.cap_pixels_per_frame = False  # what unset means, without its warning at every call
    return processor


def _load_model(folder: Path, settings: HFSettings, device: torch.device) -> Any:
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    arguments: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": settings.trust_remote_code,
    }
    if settings.attn != "auto":
        arguments["attn_implementation"] = settings.attn
    if settings.quantization:
        compute = torch.bfloat16 if dtype == "auto" else dtype
        arguments["quantization_config"] = quantization_config(settings.quantization, compute)
        arguments["device_map"] = settings.device_map or {"": device}
    elif settings.device_map:
        arguments["device_map"] = settings.device_map
    elif world_size() > 1:
        # This process's slice of the model's own plan.
        arguments["distributed_config"] = DistributedConfig(tp_size=world_size())
    model = AutoModelForImageTextToText.from_pretrained(folder, **arguments)
    is_placed = {"device_map", "distributed_config"} & set(arguments)
    return model if is_placed else model.to(device)


def _weights_name(folder: Path, model: Any, adapter: str | None) -> str:
    """Tells what encodes pictures apart: the weights, those on top of them, and their format."""
    learned = "" if adapter is None else identity_of(Path(adapter).expanduser())
    quantised = getattr(model.config, "quantization_config", None)
    return "\n".join([identity_of(folder), learned, str(model.dtype), str(quantised)])


@contextmanager
def _load_errors(folder: Path) -> Iterator[None]:
    """What goes wrong while loading, as one sentence."""
    try:
        yield
    except Exception as problem:
        if is_out_of_memory(problem):
            raise OutOfMemory(
                f"The device has no room for the weights of {folder.name}.",
                hint="Use --quantization bnb-4bit, a smaller model or --device cpu.",
            ) from problem
        if is_device_lost(problem):
            raise EngineDied(
                f"The device fails: {first_line(problem)}",
                hint="Start the program again: a device that failed once stays lost to a process.",
            ) from problem
        if not isinstance(problem, OSError | ValueError | ImportError | KeyError | RuntimeError):
            raise
        raise ModelError(
            f"transformers cannot load {folder.name}: {first_line(problem)}",
            hint="Check that the download is complete and of a version transformers knows.",
        ) from problem


@contextmanager
def quiet() -> Iterator[None]:
    """Loading notes and bars of transformers stay off the user's terminal."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
