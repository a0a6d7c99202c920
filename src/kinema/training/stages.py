"""Which weights learn: the stages by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from kinema.errors import UsageError
from kinema.training.settings import StageSettings

CONNECTOR = ("positions", "projector", "fusion")
"""Modules of a VideoLM between tower and language model; a model need not have all."""


def apply_stage(model: Any, settings: StageSettings) -> Any:
    """Freeze everything that the stage does not train; adapters are put around the model.

    What learns is in float32, however the rest is stored.

    Raises:
        UsageError: the stage does not fit the model, or nothing would learn.
    """
    model.requires_grad_(False)
    model = _STAGES[settings.stage](model, settings)
    if settings.freeze_mm_mlp_adapter:
        _parameters(model, lambda name: ".projector." in f".{name}", learn=False)
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise UsageError(
            f"stage={settings.stage} with the projector frozen trains nothing.",
            hint="Leave freeze_mm_mlp_adapter out, or choose another stage.",
        )
    for parameter in learning:
        parameter.data = parameter.data.float()
    return model


def learning_counts(model: nn.Module) -> tuple[int, int]:
    """Numbers that learn, and numbers in all."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, learns in sizes if learns), sum(n for n, _ in sizes)


def keep_what_learns(model: nn.Module) -> None:
    """Leave frozen weights out of the model's state dict, and so out of its checkpoints.

    They are those of the model that training began with, so nothing misses them when a checkpoint
    is loaded.
    """
    learning = {name for name, p in model.named_parameters() if p.requires_grad}

    def drop(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        for name in [n for n in state if n.removeprefix(prefix) not in learning]:
            del state[name]

    def forgive(_: nn.Module, found: Any) -> None:
        found.missing_keys[:] = [name for name in found.missing_keys if name in learning]

    model.register_state_dict_post_hook(drop)  # type: ignore[no-untyped-call]
    model.register_load_state_dict_post_hook(forgive)  # type: ignore[no-untyped-call]


@contextmanager
def old_names() -> Iterator[None]:
    """PEFT asks transformers for something by a name that transformers calls old."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _projector(model: Any, _: StageSettings) -> Any:
    _parameters(model, _in(CONNECTOR))
    return model


def _full(model: Any, settings: StageSettings) -> Any:
    _parameters(model, lambda name: settings.tune_vision_tower or not _in(["vision_tower"])(name))
    return model


def _layers(model: Any, settings: StageSettings) -> Any:
    decoder = model.get_decoder()
    for index in settings.train_layers:
        _layer(decoder, index).requires_grad_(True)
    for part in (decoder.norm, model.get_input_embeddings(), model.get_output_embeddings()):
        part.requires_grad_(True)
    return _projector(model, settings)


def _layer(decoder: Any, index: int) -> nn.Module:
    count = len(decoder.layers)
    if not -count <= index < count:
        raise UsageError(
            f"train_layers names layer {index} and the model has {count}.",
            hint=f"Choose from 0 to {count - 1}, or count from the end: -1 is the last.",
        )
    layer: nn.Module = decoder.layers[index]
    return layer


def _adapters(model: Any, settings: StageSettings) -> Any:
    whole = [name for name in CONNECTOR if getattr(model, name, None) is not None]
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_targets(model, settings.lora_target_modules),
        modules_to_save=[name for name in whole if _has_weights(getattr(model, name))],
    )
    with old_names():
        return get_peft_model(model, config)


def _targets(model: Any, wanted: Iterable[str]) -> str:
    """A pattern of the language model's linear layers, its head left out."""
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.language_model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    chosen = set(wanted) or linear
    if unknown := sorted(chosen - linear):
        raise UsageError(
            f"lora_target_modules names {unknown[0]}, which is no linear layer of this model.",
            hint=f"It has {', '.join(sorted(linear))}.",
        )
    return rf"language_model\..*\.({'|'.join(sorted(chosen))})"


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _in(parts: Iterable[str]) -> Callable[[str], bool]:
    heads = tuple(f"{part}." for part in parts)
    return lambda name: name.startswith(heads)


def _parameters(model: nn.Module, chosen: Callable[[str], bool], *, learn: bool = True) -> None:
    for name, parameter in model.named_parameters():
        if chosen(name) and torch.is_floating_point(parameter):
            parameter.requires_grad_(learn)


_STAGES: Mapping[str, Callable[[Any, StageSettings], Any]] = {
    "projector": _projector,
    "lora": _adapters,
    "qlora": _adapters,
    "full": _full,
    "layers": _layers,
}
