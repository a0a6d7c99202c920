"""Pictures of things that have names, in several styles; one style is kept for testing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Protocol

from PIL import Image, ImageChops, ImageDraw

SIDE = 96
"""Pixels of a picture's side."""
_FINE = 4
"""Drawn so many times larger and made smaller, for smooth edges."""
COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 30),
    "yellow": (250, 215, 50),
    "green": (45, 160, 70),
    "blue": (40, 90, 215),
    "purple": (140, 60, 180),
    "pink": (245, 140, 185),
    "white": (245, 245, 245),
}

Point = tuple[float, float]


class Art(Protocol):
    """Named things in styles."""

    names: tuple[str, ...]
    styles: tuple[str, ...]
    """Styles that are learned from."""
    unseen_style: str
    """The style that only the test shows."""

    def picture(self, name: str, style: str, colour: str) -> Image.Image:
        """RGBA picture of :data:`SIDE` pixels; ``colour`` may mean nothing to it."""


def _around(count: int, radius: Callable[[int], float]) -> list[Point]:
    turns = [-pi / 2 + 2 * pi * k / count for k in range(count)]
    return [(radius(k) * cos(a), radius(k) * sin(a)) for k, a in enumerate(turns)]


def _heart() -> list[Point]:
    angles = [2 * pi * k / 60 for k in range(60)]
    return [
        (
            sin(a) ** 3,
            -(13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 17,
        )
        for a in angles
    ]


def _moon() -> list[Point]:
    outer = [(cos(a), sin(a)) for a in (pi * (0.3 + 1.4 * k / 40) for k in range(41))]
    tip = outer[0]
    inner = [(tip[0] - 0.45 * sin(pi * k / 40), -tip[1] * cos(pi * k / 40)) for k in range(41)]
    return outer + inner


SHAPES: Mapping[str, list[Point]] = {
    "circle": _around(60, lambda _: 1.0),
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": _around(3, lambda _: 1.0),
    "star": _around(10, lambda k: 0.42 if k % 2 else 1.0),
    "heart": _heart(),
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "moon": _moon(),
    "arrow": [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)],
    "cross": [
        *((-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)),
        *((0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)),
    ],
}
"""Outlines in a square from -1 to 1, y pointing down."""


@dataclass(frozen=True)
class Shapes:
    """Plain shapes, drawn here: nothing has to be fetched."""

    names: tuple[str, ...] = tuple(SHAPES)
    styles: tuple[str, ...] = ("flat", "outlined")
    unseen_style: str = "striped"

    def picture(self, name: str, style: str, colour: str) -> Image.Image:
        """The shape in a colour of :data:`COLOURS`."""
        mask = _mask(SHAPES[name], scale=0.95)
        paint = Image.new("RGB", mask.size, COLOURS[colour])
        if style == "outlined":
            inside = _mask(SHAPES[name], scale=0.75)
            paint = Image.composite(paint, Image.new("RGB", mask.size, (25, 25, 30)), inside)
        if style == "striped":
            mask = ImageChops.multiply(mask, _stripes(mask.size))
        paint.putalpha(mask)
        return paint.resize((SIDE, SIDE), Image.Resampling.BOX)


def _mask(outline: list[Point], *, scale: float) -> Image.Image:
    half = SIDE * _FINE / 2
    mask = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    points = [(half * (1 + scale * x), half * (1 + scale * y)) for x, y in outline]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return mask


def _stripes(size: tuple[int, int]) -> Image.Image:
    stripes = Image.new("L", size, 255)
    pen = ImageDraw.Draw(stripes)
    for y in range(0, size[1], 12 * _FINE):
        pen.rectangle((0, y, size[0], y + 4 * _FINE), fill=0)
    return stripes
