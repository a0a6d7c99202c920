"""Augmented copies made on the fly: the picture changes of the Breakfast fork of Video-ChatGPT.

The fork wrote new video files with albumentations; here the decoded frames are changed, so nothing
is encoded twice and a copy is never augmented again.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torchvision.transforms.v2 import Compose, Lambda, RandomHorizontalFlip, Transform

from kinema.datasets.variants import VARIANTS
from kinema.errors import UnknownName

_BRIGHTER = 0.2 * 255
"""Added to every value: albumentations measures brightness in parts of white."""
_CONTRAST = 1 - 0.3
_TOP_ROWS = 50
_WEBP_QUALITY = 5
_SHARPNESS = 0.25
"""The middle of the fork's 0.2 to 0.3: a copy is the same each time it is made."""
_SHARPEN_LIGHTNESS = 0.75
"""The middle of albumentations' 0.5 to 1.0."""


def augmentation(variant: str) -> Transform:
    """The transform of uint8[T, 3, H, W] that makes one variant.

    Raises:
        UnknownName: there is no such variant.
    """
    if variant not in VARIANTS:
        raise UnknownName("variant", variant, VARIANTS)
    return Compose([_STEPS[step]() for step in variant.split("_")])


def brighten(pixels: Tensor) -> Tensor:
    """A fifth of white more, in every place."""
    return _as_bytes(pixels.float() + _BRIGHTER)


def flatten_contrast(pixels: Tensor) -> Tensor:
    """Every value times 0.7, as albumentations lowers contrast."""
    return _as_bytes(pixels.float() * _CONTRAST)


def cut_top(pixels: Tensor) -> Tensor:
    """The picture below its first 50 rows; at most half of it goes."""
    return pixels[..., min(_TOP_ROWS, pixels.shape[-2] // 2) :, :]


def compress(pixels: Tensor) -> Tensor:
    """What WebP of quality 5 leaves of each picture."""
    return torch.stack([_through_webp(picture) for picture in pixels])


def sharpen(pixels: Tensor) -> Tensor:
    """A mix of the picture and its sharpened self (albumentations' Sharpen)."""
    kernel = torch.full((3, 3), -1.0)
    kernel[1, 1] = 8 + _SHARPEN_LIGHTNESS
    kernel *= _SHARPNESS
    kernel[1, 1] += 1 - _SHARPNESS
    planes = pixels.flatten(0, 1).unsqueeze(1).float()
    mixed = conv2d(pad(planes, (1, 1, 1, 1), mode="reflect"), kernel[None, None])
    return _as_bytes(mixed).reshape(pixels.shape)


def _through_webp(picture: Tensor) -> Tensor:
    packed = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(packed, "WEBP", quality=_WEBP_QUALITY)
    with Image.open(packed) as unpacked:
        return torch.from_numpy(np.array(unpacked.convert("RGB"))).permute(2, 0, 1)


def _as_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


_STEPS: dict[str, Callable[[], Transform]] = {
    "flip": lambda: RandomHorizontalFlip(p=1),
    "bright": lambda: Lambda(brighten),
    "contrast": lambda: Lambda(flatten_contrast),
    "crop": lambda: Lambda(cut_top),
    "compress": lambda: Lambda(compress),
    "sharp": lambda: Lambda(sharpen),
}
