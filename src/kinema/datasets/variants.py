"""The eleven augmented copies that the Breakfast fork of Video-ChatGPT trains on, by name."""

from __future__ import annotations

from collections.abc import Container
from pathlib import PurePath

VARIANTS = (
    *("flip", "bright", "bright_flip", "contrast", "contrast_flip", "crop", "crop_flip"),
    *("compress", "compress_flip", "sharp", "sharp_flip"),
)
"""In the order in which the fork cycles through them; the original comes before all."""


def augmented_from(path: PurePath, existing: Container[PurePath]) -> PurePath | None:
    """The original that a video file is an augmented copy of, None for an original.

    A copy is called like its original with a variant's name behind the stem, and lies beside it;
    a file that is merely called ``x_crop.avi`` is none.
    """
    for variant in VARIANTS:
        if path.stem.endswith(f"_{variant}"):
            original = path.with_stem(path.stem.removesuffix(f"_{variant}"))
            if original in existing:
                return original
    return None
