"""A contact sheet: every frame the model saw, on one page."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kinema.types import Frames

_CAPTION_PIXELS = 14
_GAP_PIXELS = 4


def contact_sheet(frames: Frames, *, columns: int | None = None, width: int = 240) -> Image.Image:
    """Lay frames out in rows, each captioned with its index and time.

    Args:
        columns: pictures a row; as square as possible when not given.
        width: pixels of one picture.
    """
    columns = columns or math.ceil(math.sqrt(len(frames)))
    height = max(1, round(width * frames.pixels.shape[1] / frames.pixels.shape[2]))
    cell = (width + _GAP_PIXELS, height + _CAPTION_PIXELS + _GAP_PIXELS)
    rows = math.ceil(len(frames) / columns)
    sheet = Image.new(
        "RGB", (columns * cell[0] + _GAP_PIXELS, rows * cell[1] + _GAP_PIXELS), "white"
    )
    for place, ((seconds, pixels), index) in enumerate(zip(frames, frames.indices, strict=True)):
        corner = (place % columns * cell[0] + _GAP_PIXELS, place // columns * cell[1] + _GAP_PIXELS)
        tile = _tile(pixels, f"#{index}  {seconds:.2f} s", (width, height))
        sheet.paste(tile, corner)
    return sheet


def _tile(pixels: NDArray[np.uint8], caption: str, size: tuple[int, int]) -> Image.Image:
    tile = Image.new("RGB", (size[0], size[1] + _CAPTION_PIXELS), "white")
    tile.paste(Image.fromarray(pixels).resize(size), (0, 0))
    ImageDraw.Draw(tile).text((2, size[1]), caption, fill="black")
    return tile
