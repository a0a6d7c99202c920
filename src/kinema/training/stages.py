"""Which weights learn: the stages by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinema.errors import UsageError
from kinema.lazy import require_packages
from kinema.training.settings import CONNECTOR, Stage, StageSettings


def apply_stage(model: Any, settings: StageSettings) -> Any:
    """Freeze everything that the stage does not train; adapters are put around the model.

    What learns is in float32, however the rest is stored.

    Raises:
        UsageError: the stage does not fit the model, or nothing would learn.
    """
    model.requires_grad_(False)
    model = STAGES[settings.stage](model, settings)
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


def train_projector(model: Any, settings: StageSettings) -> Any:
    """The connector learns: projector, positions and fusion; where asked for, two tokens too."""
    _parameters(model, lambda name: name.startswith(tuple(f"{part}." for part in CONNECTOR)))
    if settings.stage == "projector" and settings.tune_media_tokens:
        _learn_rows(model, model.config)
    return model


def _learn_rows(model: Any, config: Any) -> None:
    """Let start and end token learn, and no other row of the table that they stand in.

    Raises:
        UsageError: the model has neither.
    """
    rows = [config.media_start_token_id, config.media_end_token_id]
    if config.media_wrap == "none" or None in rows:
        raise UsageError(
            "tune_media_tokens trains start and end token, and this model has none.",
            hint="Leave it out, or make a model with media_wrap=outside.",
        )
    table = model.get_input_embeddings().weight
    table.requires_grad_(True)

    def keep(gradient: Tensor) -> Tensor:
        kept = torch.zeros_like(gradient)
        kept[rows] = gradient[rows]
        return kept

    table.register_hook(keep)


def train_all(model: Any, settings: StageSettings) -> Any:
    """Everything learns, the vision tower only where it was asked for."""
    _parameters(
        model, lambda name: settings.tune_vision_tower or not name.startswith("vision_tower.")
    )
    return model


def train_layers(model: Any, settings: StageSettings) -> Any:
    """Connector, embeddings, chosen decoder layers, final norm and head learn."""
    decoder = model.get_decoder()
    for index in settings.train_layers:
        count = len(decoder.layers)
        if not -count <= index < count:
            raise UsageError(
                f"train_layers names layer {index} and the model has {count}.",
                hint=f"Choose from 0 to {count - 1}, or count from the end: -1 is the last.",
            )
        decoder.layers[index].requires_grad_(True)
    for part in (decoder.norm, model.get_input_embeddings(), model.get_output_embeddings()):
        part.requires_grad_(True)
    return train_projector(model, settings)


def train_adapters(model: Any, settings: StageSettings) -> Any:
    """Projector and LoRA adapters of the language model learn; qlora puts them on 4-bit weights."""
    packages = ["peft", "bitsandbytes"] if settings.stage == "qlora" else ["peft"]
    what = f"The stage {settings.stage!r}"
    require_packages(what, packages, install="pip install 'kinema[adapters]'")
    from kinema.training.adapters import add_adapters  # noqa: PLC0415  imports peft

    return add_adapters(model, settings)


STAGES: Mapping[Stage, Callable[[Any, StageSettings], Any]] = {
    "projector": train_projector,
    "lora": train_adapters,
    "qlora": train_adapters,
    "full": train_all,
    "layers": train_layers,
}
"""Each takes a frozen model and the settings and returns it with something that learns."""


def _parameters(model: nn.Module, chosen: Callable[[str], bool], *, learn: bool = True) -> None:
    for name, parameter in model.named_parameters():
        if chosen(name) and torch.is_floating_point(parameter):
            parameter.requires_grad_(learn)
