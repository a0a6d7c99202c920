"""What is extracted, with what, and how much at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinema.datasets.variants import VARIANTS
from kinema.errors import UnknownName
from kinema.types import FeatureKind

DEFAULT_TOWER = "openai/clip-vit-large-patch14"
Fit = Literal["stretch", "crop", "pad"]
Number = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Everything that decides the rows of a features file, frames apart."""

    tower: str = DEFAULT_TOWER
    """CLIP, SigLIP or timm model (folder or hub name), efficientnet_lite0, or a whole VideoLM."""
    kind: FeatureKind | None = None
    """spatio_temporal (default), layers, cls or patches; a VideoLM has its own."""
    layers: tuple[int, ...] = ()
    """Hidden states of the tower to take, -1 the last; the kind's own when left out."""
    fit: Fit | None = None
    """What happens to frames that are not square: stretch (default; Video-ChatGPT), crop or pad."""
    exact_frames: int | None = None
    """Repeat frames of a short video up to this count (the Breakfast fork: 1000)."""
    augment: tuple[str, ...] = ()
    """Write augmented copies too: names with commas between them, or all."""
    size: int | None = None
    """Decode at this shorter side in pixels; quicker for large videos, and nearly the same."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Number format of the tower; auto is float16 on a GPU and float32 elsewhere."""
    store: Number = "float16"
    """Number format of the files."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The augmentations by name, in the fork's order.

        Raises:
            UnknownName: there is no such one.
        """
        names = [n.strip() for text in self.augment for n in text.split(",") if n.strip()]
        for name in names:
            if name not in (*VARIANTS, "all"):
                raise UnknownName("augmentation", name, (*VARIANTS, "all"))
        return tuple(name for name in VARIANTS if name in names or "all" in names)
