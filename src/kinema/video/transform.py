"""Frames as CLIP-style vision towers want them: resized, cropped or padded, normalised.

The results are those of the transformers processors; the work is done on channels-last bytes, all
frames at once, and floats are made only of the pixels that stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kinema.errors import UsageError
from kinema.types import Frames

Fit = Literal["crop", "pad", "stretch"]
Resample = Literal["bilinear", "bicubic"]

_RESAMPLES: dict[int, Resample] = {2: "bilinear", 3: "bicubic"}  # the numbers of Pillow
_CHUNK_BYTES = 4 << 20
"""Of resized pixels that become floats in one go: they stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class TowerTransform:
    """From uint8[T, H, W, 3] to float32[T, 3, height, width].

    ``crop`` resizes the shorter side to ``shortest_edge`` and cuts the middle out, ``pad`` first
    puts the frame on a square of the mean colour, ``stretch`` resizes to height and width.
    The defaults are those of CLIP.

    Raises:
        UsageError: a size below 1, or a crop that is larger than the resized frame.
    """

    height: int = 224
    width: int = 224
    shortest_edge: int = 224
    """Shorter side before the crop, in pixels."""
    fit: Fit = "crop"
    resample: Resample = "bicubic"
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise UsageError(f"A tower cannot take {self.width}×{self.height}.", hint="Try 224.")
        if self.fit != "stretch" and self.shortest_edge < max(self.height, self.width):
            raise UsageError(
                f"{self.width}×{self.height} cannot be cut out of a shorter side of "
                f"{self.shortest_edge}.",
                hint="Raise shortest_edge or use fit='stretch'.",
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, pad: bool = False) -> TowerTransform:
        """Read a checkpoint's ``preprocessor_config.json``.

        Raises:
            UsageError: it asks for something that this transform does not do.
        """
        _refuse_other_steps(config)
        size, crop = config["size"], config.get("crop_size")
        edge = size if isinstance(size, int) else size.get("shortest_edge")
        cuts = edge is not None and config.get("do_center_crop", True)
        if not cuts and not ({"height", "width"} <= set(size if isinstance(size, dict) else ())):
            raise UsageError(f"A size of {size} leaves frames of any shape.", hint="Crop them.")
        height, width = _sides(crop or edge) if cuts else _sides(size)
        return cls(
            height=height,
            width=width,
            shortest_edge=edge if cuts else max(height, width),
            fit=("pad" if pad else "crop") if cuts else "stretch",
            resample=_RESAMPLES[config.get("resample", 3)],
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
        )

    def __call__(self, frames: Frames | NDArray[Any] | Tensor) -> Tensor:
        """float32[T, 3, height, width] of uint8[T, H, W, 3]."""
        pixels = frames.pixels if isinstance(frames, Frames) else frames
        if isinstance(pixels, np.ndarray):
            # A copy where needed: torch has no tensors that cannot be written to.
            pixels = np.require(pixels, requirements="W")
        # A view with channels first in the shape and last in memory: the fastest path of torch.
        video = torch.as_tensor(pixels).permute(0, 3, 1, 2)
        if self.fit == "pad":
            video = _on_square(video, self.mean)
        height, width = video.shape[-2:]
        size = (self.height, self.width)
        if self.fit != "stretch":
            edge = self.shortest_edge
            wide = height <= width
            size = (
                (edge, int(edge * width / height)) if wide else (int(edge * height / width), edge)
            )
        if size != (height, width):
            video = functional.interpolate(video, size, mode=self.resample, antialias=True)
        top, left = (size[0] - self.height) // 2, (size[1] - self.width) // 2
        return self._normalised(video[..., top : top + self.height, left : left + self.width])

    def _normalised(self, video: Tensor) -> Tensor:
        std = torch.tensor(self.std, device=video.device).view(3, 1, 1)
        shift = -torch.tensor(self.mean, device=video.device).view(3, 1, 1) / std
        result = torch.empty(video.shape, device=video.device)
        step = max(1, _CHUNK_BYTES // (4 * 3 * self.height * self.width))
        for start in range(0, len(video), step):
            part = result[start : start + step]
            part.copy_(video[start : start + step]).div_(255 * std).add_(shift)
        return result


def _on_square(video: Tensor, mean: tuple[float, float, float]) -> Tensor:
    """Centred on a square of the mean colour; channels stay last in memory."""
    count, _, height, width = video.shape
    side = max(height, width)
    colour = torch.tensor([int(255 * m) for m in mean], dtype=torch.uint8, device=video.device)
    square = colour.repeat(count, side, side, 1)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = video.permute(0, 2, 3, 1)
    return square.permute(0, 3, 1, 2)


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _refuse_other_steps(config: Mapping[str, Any]) -> None:
    needed = ("do_resize", "do_rescale", "do_normalize")
    left_out = [step for step in needed if not config.get(step, True)]
    factor = config.get("rescale_factor") or 1 / 255
    if left_out or abs(factor * 255 - 1) > 1e-6 or config.get("resample", 3) not in _RESAMPLES:
        what = left_out or {k: config.get(k) for k in ("rescale_factor", "resample")}
        raise UsageError(f"This processor does something else: {what}.", hint="Use its own code.")
