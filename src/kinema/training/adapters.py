"""LoRA adapters: put around a language model, taken in again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from kinema.errors import UsageError
from kinema.training.settings import CONNECTOR, StageSettings


def add_adapters(model: Any, settings: StageSettings) -> Any:
    """Adapters of the language model's linear layers learn, and the whole connector.

    Raises:
        UsageError: a layer was named that the model does not have.
    """
    parts = ((name, getattr(model, name, None)) for name in CONNECTOR)
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_targets(model, settings.lora_target_modules),
        modules_to_save=[name for name, part in parts if part and [*part.parameters()]],
    )
    with old_names():
        return get_peft_model(model, config)


def merge_adapters(model: Any, folder: Path) -> Any:
    """The model with the adapters of a folder added to its weights."""
    with old_names():
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


@contextmanager
def old_names() -> Iterator[None]:
    """PEFT asks transformers for something by a name that transformers calls old."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


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
