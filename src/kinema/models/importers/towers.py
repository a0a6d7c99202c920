"""Vision towers without a language model, wherever they come from, ready to extract features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoProcessor, TimmWrapperConfig, TimmWrapperModel

from kinema.errors import ModelError, ModelNotFound, UsageError
from kinema.models.importers.parts import Tower, read_tower
from kinema.models.importers.weights import Weights
from kinema.models.pickled_tensors import read_tensors
from kinema.models.spotter.network import weights_file
from kinema.models.videolm import VideoLMConfig, VideoLMVideoProcessor
from kinema.models.videolm.kinds import kind_config
from kinema.types import FeatureKind

EFFICIENTNET_LITE0 = "efficientnet_lite0"
"""The network of the built-in spotter, whose weights a Python package carries."""
_PREFIX = "vision_tower."
_OURS = VideoLMConfig.model_type
_DEFAULT_SIDE_PIXELS = 224


@dataclass(frozen=True)
class FeatureTower:
    """A tower and everything that decides what its features mean."""

    tower: Tower
    config: VideoLMConfig
    exact_frames: int | None = None
    """Frames are repeated up to this count."""


def is_videolm(folder: Path) -> bool:
    """True for a folder of a whole `VideoLM`."""
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text()).get("model_type") == _OURS


def open_videolm_tower(folder: Path) -> FeatureTower:
    """The tower of a `VideoLM` with the settings it was trained with; nothing else is loaded."""
    config = VideoLMConfig.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    weights: Weights = {}
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as file:
            names = (name for name in file.keys() if name.startswith(_PREFIX))  # noqa: SIM118
            weights |= {name: file.get_tensor(name) for name in names}
    tower = Tower(config.vision_config, weights, processor.video_processor)
    return FeatureTower(tower, config, processor.exact_frames)


def open_tower(
    name: str | Path,
    *,
    kind: FeatureKind,
    num_frames: int,
    layers: Sequence[int] = (),
    fit: str = "stretch",
) -> FeatureTower:
    """A CLIP, SigLIP or timm tower for one kind of features.

    Args:
        name: a folder, a name in the hub's cache, or ``efficientnet_lite0``.
        kind: see :mod:`kinema.models.videolm.kinds`.
        num_frames: temporal rows, where the kind has them.
        layers: hidden states instead of the kind's own.
        fit: what happens to a frame that is not square; see :class:`VideoLMVideoProcessor`.

    Raises:
        ModelNotFound: it is not there.
        ModelError: it is another kind of model.
        UsageError: the tower does not give this kind, or has no such layer.
    """
    tower, shape = read_any_tower(name, fit=fit)
    fields = kind_config(kind, tower.config, layers=layers, num_frames=num_frames)
    chosen = fields["select_layer"]
    states = getattr(tower.config, "num_hidden_layers", 0) + 1
    for layer in [chosen] if isinstance(chosen, int) else chosen:
        if not -states <= layer < states:
            raise UsageError(
                f"--layers {layer} is no state of this tower.",
                hint=f"It has {states}: 0 to {states - 1}, or -1 for the last.",
            )
    return FeatureTower(tower, VideoLMConfig(vision_config=tower.config, **shape | fields))


def read_any_tower(name: str | Path, *, fit: str) -> tuple[Tower, dict[str, Any]]:
    """A tower, and the fields of a ``VideoLMConfig`` that do not follow from its own configuration.

    Args:
        name: CLIP, SigLIP or timm: a folder, a name in the hub's cache, or ``efficientnet_lite0``.
        fit: what happens to a frame that is not square; see :class:`VideoLMVideoProcessor`.

    Raises:
        ModelNotFound: it is not there.
        ModelError: it is another kind of model.
    """
    if name == EFFICIENTNET_LITE0:
        return _built_in(fit)
    config = Path(name) / "config.json"
    if config.is_file() and "pretrained_cfg" in json.loads(config.read_text()):
        return _timm(Path(name), fit)
    return read_tower(name, fit=fit), {}


def _timm(folder: Path, fit: str) -> tuple[Tower, dict[str, Any]]:
    try:
        model = TimmWrapperModel.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"The tower {folder} cannot be loaded.", hint="See above.") from error
    facts = AutoConfig.from_pretrained(folder).pretrained_cfg or {}
    side = facts.get("input_size", [3, _DEFAULT_SIDE_PIXELS])[-1]
    mean, std = facts.get("mean"), facts.get("std")
    pixels = {"image_mean": mean, "image_std": std} if mean and std else {}
    return _described(model, fit, side=side, **pixels)


def _built_in(fit: str) -> tuple[Tower, dict[str, Any]]:
    model = TimmWrapperModel(TimmWrapperConfig(architecture="tf_efficientnet_lite0"))
    # Both list the same layers in the same order, and this wrapper has no classifier at its end.
    names, tensors = list(model.state_dict()), list(read_tensors(weights_file()).values())
    weights = {n: torch.from_numpy(t) for n, t in zip(names, tensors, strict=False)}
    model.load_state_dict(weights)
    grey = [127 / 255] * 3  # EfficientNet-Lite wants (x - 127) / 128
    return _described(
        model, fit, side=_DEFAULT_SIDE_PIXELS, image_mean=grey, image_std=[128 / 255] * 3
    )


def _described(model: Any, fit: str, *, side: int, **pixels: Any) -> tuple[Tower, dict[str, Any]]:
    """A timm tower, its pixels, and the width and grid that a look at grey shows."""
    model.eval()
    with torch.inference_mode():
        seen = model(torch.zeros(1, 3, side, side), do_pooling=False).last_hidden_state
    if seen.ndim != 4:
        raise ModelError(
            "This timm model gives no feature map.", hint="Towers of timm are convolutional."
        )
    square = {"height": side, "width": side}
    processor = VideoLMVideoProcessor(
        fit=fit, size={"shortest_edge": side}, crop_size=square, **pixels
    )
    weights = {f"{_PREFIX}{key}": tensor for key, tensor in model.state_dict().items()}
    shape = {"vision_hidden_size": seen.shape[1], "vision_grid": list(seen.shape[2:])}
    shape |= {"select_layer": -1}  # it gives its last map only
    return Tower(model.config, weights, processor), shape
