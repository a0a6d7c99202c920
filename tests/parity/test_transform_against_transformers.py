"""Our frames for a tower are those of the transformers processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from kinema.errors import UsageError
from kinema.types import Frames
from kinema.video.transform import TowerTransform

SHAPES = [(64, 96), (96, 64), (224, 224), (240, 320), (721, 1279), (1080, 1920), (300, 224)]


def noise(height: int, width: int, count: int = 2) -> np.ndarray:
    """Smooth and noisy at once, so that every kernel has something to do."""
    chance = np.random.default_rng(height)
    slope = np.linspace(0, 200, height * width).reshape(height, width, 1)
    return (slope + chance.integers(0, 56, (count, height, width, 3))).astype(np.uint8)


def levels_apart(ours: torch.Tensor, theirs: torch.Tensor, std: list[float]) -> torch.Tensor:
    """Differences in steps of 1/255 of the pixels before normalisation."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float32
    return (ours - theirs).abs() * torch.tensor(std).view(3, 1, 1) * 255


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_clip_frames_are_those_of_the_pillow_processor_to_one_level(
    height: int, width: int
) -> None:
    pixels = noise(height, width)
    processor = CLIPImageProcessorPil()
    theirs = processor(list(pixels), return_tensors="pt")["pixel_values"]
    ours = TowerTransform.from_config(processor.to_dict())(pixels)
    apart = levels_apart(ours, torch.as_tensor(theirs), processor.image_std)
    # Where pictures are enlarged, Pillow and torch round a few pixels in a million two apart.
    assert float((apart > 1.01).float().mean()) < 2e-5
    assert float(apart.max()) < 2.01


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_clip_frames_are_those_of_the_torch_processor(height: int, width: int) -> None:
    pixels = noise(height, width)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 300}
    )
    theirs = processor(list(pixels), return_tensors="pt")["pixel_values"]
    ours = TowerTransform.from_config(processor.to_dict())(pixels)
    assert levels_apart(ours, theirs, processor.image_std).max() < 0.01


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_siglip_frames_are_stretched_as_theirs(height: int, width: int) -> None:
    pixels = noise(height, width)
    processor = SiglipImageProcessor()
    theirs = processor(list(pixels), return_tensors="pt")["pixel_values"]
    ours = TowerTransform.from_config(processor.to_dict())(pixels)
    assert levels_apart(ours, theirs, processor.image_std).max() < 0.01


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_padding_is_a_square_of_the_mean_colour(height: int, width: int) -> None:
    """As NeVA does it: paste on a canvas, then preprocess."""
    pixels = noise(height, width)
    processor = CLIPImageProcessor()
    colour = tuple(int(255 * mean) for mean in processor.image_mean)
    assert colour == (122, 116, 104)
    side = max(height, width)
    squares = []
    for picture in pixels:
        square = Image.new("RGB", (side, side), colour)
        square.paste(Image.fromarray(picture), ((side - width) // 2, (side - height) // 2))
        squares.append(np.array(square))
    theirs = processor(squares, return_tensors="pt")["pixel_values"]
    ours = TowerTransform(fit="pad")(pixels)
    assert levels_apart(ours, theirs, processor.image_std).max() < 0.01


def test_frames_arrays_and_tensors_are_one(frames: Frames) -> None:
    transform = TowerTransform(height=32, width=32, shortest_edge=32)
    expected = transform(frames)
    assert expected.shape == (5, 3, 32, 32)
    locked = frames.pixels.copy()
    locked.flags.writeable = False
    for form in (frames.pixels, torch.from_numpy(frames.pixels), locked):
        torch.testing.assert_close(transform(form), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "config",
    [
        {"do_resize": False},
        {"resample": 0},
        {"rescale_factor": 1 / 127.5},
        {"do_center_crop": False},
        {"crop_size": {"height": 400, "width": 400}},
    ],
)
def test_what_it_does_not_do_is_refused(config) -> None:
    with pytest.raises(UsageError):
        TowerTransform.from_config(CLIPImageProcessor().to_dict() | config)
