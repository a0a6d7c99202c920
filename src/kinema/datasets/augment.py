"""Augmented copies made on the fly: the picture changes of the Breakfast fork of Video-ChatGPT.

The fork wrote new video files with albumentations; here the decoded frames are changed, so nothing
is encoded twice and a copy is never augmented again.
"""

from __future__ import annotations

import io

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
    return Compose([_STEPS[step] for step in variant.split("_")])


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
    pictures = []
    for picture in pixels.permute(0, 2, 3, 1).numpy():
        packed = io.BytesIO()
        Image.fromarray(picture).save(packed, "WEBP", quality=_WEBP_QUALITY)
        with Image.open(packed) as unpacked:
            pictures.append(torch.from_numpy(np.array(unpacked.convert("RGB"))))
    return torch.stack(pictures).permute(0, 3, 1, 2)


def sharpen(pixels: Tensor) -> Tensor:
    """A mix of the picture and its sharpened self (albumentations' Sharpen)."""
    kernel = torch.full((3, 3), -1.0)
    kernel[1, 1] = 8 + _SHARPEN_LIGHTNESS
    kernel *= _SHARPNESS
    kernel[1, 1] += 1 - _SHARPNESS
    planes = pixels.flatten(0, 1).unsqueeze(1).float()
    mixed = conv2d(pad(planes, (1, 1, 1, 1), mode="reflect"), kernel[None, None])
    return _as_bytes(mixed).reshape(pixels.shape)


def _as_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


_STEPS: dict[str, Transform] = {
    "flip": RandomHorizontalFlip(p=1),
    "bright": Lambda(brighten),
    "contrast": Lambda(flatten_contrast),
    "crop": Lambda(cut_top),
    "compress": Lambda(compress),
    "sharp": Lambda(sharpen),
}
