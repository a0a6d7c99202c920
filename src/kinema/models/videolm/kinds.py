"""The kinds of features that are worth a file, as settings of a `VideoLM`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinema.types import FeatureKind


@dataclass(frozen=True, kw_only=True)
class KindSettings:
    """How the tower's states become the rows of one kind."""

    select_feature: str
    pooling: str
    layer: int | None
    """The hidden state that is taken, None for every one."""
    post_layernorm: bool
    num_frames: int
    """Frames of a video, where nothing else is asked for."""


KINDS: Mapping[FeatureKind, KindSettings] = {
    # Video-ChatGPT (Maaz et al. 2023, section 3.1): 100 + 256 rows for CLIP ViT-L/14.
    "spatio_temporal": KindSettings(
        select_feature="patch",
        pooling="spatio_temporal",
        layer=-2,
        post_layernorm=False,
        num_frames=100,
    ),
    # Its Breakfast fork: 1000 frames × 25 states × 1024.
    "layers": KindSettings(
        select_feature="cls", pooling="cls", layer=None, post_layernorm=True, num_frames=1000
    ),
    "cls": KindSettings(
        select_feature="cls", pooling="cls", layer=-1, post_layernorm=True, num_frames=1000
    ),
    "patches": KindSettings(
        select_feature="patch", pooling="frames", layer=-2, post_layernorm=False, num_frames=8
    ),
}


def kind_config(
    kind: FeatureKind, tower: Any, *, layers: Sequence[int] = (), num_frames: int
) -> dict[str, Any]:
    """Fields of a ``VideoLMConfig`` that make this kind of features.

    Args:
        kind: a row of :data:`KINDS`.
        tower: configuration of the vision tower.
        layers: hidden states to take instead of the kind's own; -1 is the last.
        num_frames: temporal rows of ``spatio_temporal``.
    """
    row = KINDS[kind]
    blocks: int | None = getattr(tower, "num_hidden_layers", None)
    if layers:
        chosen = list(layers)
    elif blocks is None:
        chosen = [-1]  # a convolutional tower gives its last map only
    else:
        chosen = list(range(blocks + 1)) if row.layer is None else [row.layer]
    return {
        "select_feature": row.select_feature,
        "pooling": row.pooling,
        "post_layernorm": row.post_layernorm and blocks is not None,
        "select_layer": chosen if len(chosen) > 1 else chosen[0],
        "num_temporal_tokens": num_frames,
    }
