"""The eleven variants do to pixels what the fork's did."""

from __future__ import annotations

import io
from pathlib import PurePath

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kinema.datasets.augment import augmentation
from kinema.datasets.variants import VARIANTS, augmented_from
from kinema.errors import UnknownName


@pytest.fixture
def pixels() -> Tensor:
    """uint8[2, 3, 120, 40] of noise."""
    return torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, 3, 120, 40), dtype=np.uint8)
    )


def test_every_variant_gives_bytes_and_the_same_ones_each_time(pixels: Tensor) -> None:
    seen = set()
    for variant in VARIANTS:
        made = augmentation(variant)(pixels)
        assert made.dtype == torch.uint8
        assert torch.equal(made, augmentation(variant)(pixels))
        assert not torch.equal(made, pixels) if made.shape == pixels.shape else True
        seen.add(made.numpy().tobytes())
    assert len(seen) == len(VARIANTS) == 11


def test_a_second_step_works_on_the_first(pixels: Tensor) -> None:
    for first in ("bright", "contrast", "crop", "compress", "sharp"):
        both = augmentation(f"{first}_flip")(pixels)
        assert torch.equal(both, augmentation(first)(pixels).flip(-1))


def test_light_and_contrast_are_those_of_albumentations(pixels: Tensor) -> None:
    values = pixels.numpy().astype(np.float64)

    bright = augmentation("bright")(pixels).numpy()
    contrast = augmentation("contrast")(pixels).numpy()

    assert np.abs(bright - np.clip(values + 51, 0, 255)).max() <= 0.5
    assert np.abs(contrast - values * 0.7).max() <= 0.5 + 1e-9


def test_crop_takes_the_first_fifty_rows_away(pixels: Tensor) -> None:
    assert torch.equal(augmentation("crop")(pixels), pixels[..., 50:, :])
    assert augmentation("crop")(pixels[..., :60, :]).shape[-2] == 30


def test_compress_is_webp_of_quality_five(pixels: Tensor) -> None:
    packed = io.BytesIO()
    picture = pixels[1].permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(packed, "WEBP", quality=5)

    made = augmentation("compress")(pixels)[1].permute(1, 2, 0).numpy()

    assert np.array_equal(made, np.array(Image.open(packed).convert("RGB")))


def test_sharpening_is_a_mix_with_a_high_pass(pixels: Tensor) -> None:
    made = augmentation("sharp")(pixels)[0, 0, 7, 9].item()

    around = pixels[0, 0, 6:9, 8:11].double()
    centre = around[1, 1]
    sharpened = 8.75 * centre - (around.sum() - centre)
    expected = (0.75 * centre + 0.25 * sharpened).clamp(0, 255).item()
    assert abs(made - expected) <= 0.5 + 1e-4


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(UnknownName, match="flop"):
        augmentation("flop")


def test_a_copy_is_known_by_the_original_beside_it() -> None:
    files = {PurePath("a/x.avi"), PurePath("a/x_bright_flip.avi"), PurePath("b/y_crop.avi")}

    assert augmented_from(PurePath("a/x_bright_flip.avi"), files) == PurePath("a/x.avi")
    assert augmented_from(PurePath("b/y_crop.avi"), files) is None
    assert augmented_from(PurePath("contrast/z.avi"), files) is None
