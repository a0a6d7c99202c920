"""From pixels to class probabilities: the vision tower's input and output.

Preprocessing of EfficientNet-Lite: 224 x 224, (x - 127) / 128.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

IMAGE_SIZE = 224
MEAN, SCALE = 127.0, 128.0
_AT_ONCE = 4
"""Views in one pass; what lies between the layers of more falls out of a CPU's cache."""


def to_views(frames: NDArray[np.uint8]) -> Tensor:
    """Look at each frame twice: squeezed whole, and its centre square.

    The first misses nothing at the borders, the second keeps shapes true.

    Args:
        frames: uint8[T, H, W, 3].

    Returns:
        float32[T, 2, 3, 224, 224].
    """
    # A copy where needed: torch refuses arrays that cannot be written to.
    pixels = torch.from_numpy(np.require(frames, requirements=("C", "W"))).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[..., top : top + side, left : left + side]
    return torch.stack([_resize(pixels), _resize(square)], dim=1)


def _resize(pixels: Tensor) -> Tensor:
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = interpolate(pixels.float(), size, mode="bicubic", antialias=True).clamp(0, 255)
    return (resized - MEAN) / SCALE


def classify(tower: torch.nn.Module, views: Tensor) -> Tensor:
    """Class probabilities of each frame: the geometric mean over its views.

    Args:
        tower: float[N, 3, 224, 224] to logits float[N, 1000].
        views: float[T, V, 3, 224, 224].

    Returns:
        float32[T, 1000], rows sum to 1.
    """
    pictures = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    pieces = torch.split(pictures, _AT_ONCE)
    logits = torch.cat([tower(piece) for piece in pieces])
    by_view = logits.float().log_softmax(-1).view(*views.shape[:2], -1)
    return by_view.mean(1).softmax(-1)
