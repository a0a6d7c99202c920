"""The loss as a picture: step on the one axis, loss on the other, no plotting package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from kinema.files import whole_file

Point = tuple[float, float]
"""(step, loss)"""

_SIZE = (960, 540)
_MARGIN = (70, 30, 30, 50)  # left, top, right, bottom
_INK, _GRID = (40, 40, 40), (225, 225, 225)
_COLOURS = ((31, 119, 180), (214, 110, 20))


def plot_losses(path: Path, curves: Mapping[str, Sequence[Point]]) -> None:
    """Draw curves by name into a PNG file; nothing is written where there are no points."""
    shown = {name: points for name, points in curves.items() if points}
    if not shown:
        return
    picture = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(picture)
    steps, losses = (
        _ticks(min(values), max(values))
        for values in zip(*(point for points in shown.values() for point in points), strict=True)
    )
    left, top, right, bottom = _MARGIN
    width, height = _SIZE[0] - left - right, _SIZE[1] - top - bottom

    def place(step: float, loss: float) -> Point:
        """Pixels of a point."""
        x = (step - steps[0]) / (steps[-1] - steps[0])
        y = (loss - losses[0]) / (losses[-1] - losses[0])
        return left + x * width, top + height - y * height

    for step in steps:
        x, _ = place(step, losses[0])
        draw.line([(x, top), (x, top + height)], fill=_GRID)
        draw.text((x - 8, top + height + 8), f"{step:g}", fill=_INK)
    for loss in losses:
        _, y = place(steps[0], loss)
        draw.line([(left, y), (left + width, y)], fill=_GRID)
        draw.text((8, y - 6), f"{loss:g}", fill=_INK)
    draw.text((_SIZE[0] // 2, _SIZE[1] - 22), "step", fill=_INK)
    draw.text((8, 8), "loss", fill=_INK)
    for row, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[row % len(_COLOURS)]
        places = [place(*point) for point in points]
        draw.line(places, fill=colour, width=2)
        for x, y in places if len(places) < 60 else ():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        draw.text((_SIZE[0] - 160, top + 8 + 18 * row), name, fill=colour)
    with whole_file(path) as draft:
        picture.save(draft, format="PNG")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, five or so."""
    span = (high - low) or abs(high) or 1.0
    exponent = math.floor(math.log10(span / 4))
    nice = (1, 2, 2.5, 5, 10)
    step = next(n * 10**exponent for n in nice if n * 10**exponent >= span / 5)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(i * step, 12) for i in range(first, last + 1)]
