"""Draws ``examples/four_things.mp4``: an umbrella, a daisy, a traffic light and a jack-o'-lantern.

Everything in the picture is drawn here, with no font, photograph or other material. The same
versions of Pillow and PyAV write the same file.

    uv run python scripts/make_example_clip.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from math import cos, pi, sin
from pathlib import Path

import av
from PIL import Image, ImageDraw

WIDTH, HEIGHT, FPS = 480, 360, 24
SCENE_SECONDS = 1.5
OVERSAMPLING = 2

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """Draws in units of one object's size around its centre, y pointing down."""

    def __init__(self, picture: Image.Image, centre: Point, size: float, tilt: float = 0.0) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._centre, self._size, self._tilt = centre, size, tilt

    def polygon(self, points: list[Point], fill: Colour) -> None:
        """Fill a shape."""
        self._draw.polygon([self._place(x, y) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fill an ellipse."""
        self.polygon(arc(x, y, rx, ry, 0, 2 * pi), fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def line(self, points: list[Point], width: float, fill: Colour) -> None:
        """Draw a line of round joints."""
        placed = [self._place(x, y) for x, y in points]
        self._draw.line(placed, fill=fill, width=round(width * self._size), joint="curve")

    def _place(self, x: float, y: float) -> Point:
        turned = turn(x, y, self._tilt)
        return self._centre[0] + self._size * turned[0], self._centre[1] + self._size * turned[1]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points of an elliptic arc, angles in radians, clockwise from the right."""
    steps = [start + (end - start) * k / 60 for k in range(61)]
    return [(x + rx * cos(a), y + ry * sin(a)) for a in steps]


def turn(x: float, y: float, angle: float) -> Point:
    """The point turned around the origin, clockwise."""
    return x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle)


def draw_umbrella(pen: Pen, _progress: float) -> None:
    """Red canopy in four tones, wooden stick with a hook."""
    wood = (90, 60, 30)
    pen.line([(0, -0.95), (0, 0.9), *arc(0.18, 0.9, 0.18, 0.2, pi, 0)], 0.05, wood)
    for half_width, red in ((1.0, 205), (0.62, 228), (0.22, 172)):
        pen.polygon(arc(0, 0.1, half_width, 1.0, pi, 2 * pi), (red, 36, 44))


def draw_daisy(pen: Pen, _progress: float) -> None:
    """Two rings of white petals around a yellow heart."""
    pen.line([(0, 0), (0.2, 4)], 0.1, (60, 130, 50))
    for length, turn, white in ((1.0, 0.0, 232), (0.93, 0.5, 252)):
        for petal in range(17):
            _draw_petal(pen, (petal + turn) / 17 * 2 * pi, length, (white, white, white))
    pen.ellipse(0, 0, 0.3, 0.3, (245, 195, 30))
    for seed in range(60):  # the spiral of a real flower head
        angle, radius = seed * 2.39996, 0.28 * (seed / 60) ** 0.5
        pen.ellipse(radius * cos(angle), radius * sin(angle), 0.02, 0.02, (215, 150, 10))


def _draw_petal(pen: Pen, angle: float, length: float, fill: Colour) -> None:
    flat = arc(0.6 * length, 0, 0.4 * length, 0.12, 0, 2 * pi)
    turned = [turn(x, y, angle) for x, y in flat]
    pen.polygon(turned, (205, 205, 212))
    pen.polygon([(0.98 * x, 0.98 * y) for x, y in turned], fill)


def draw_traffic_light(pen: Pen, progress: float) -> None:
    """Black housing on a pole; red, amber and green each glow for a third of the scene."""
    pen.box(-0.08, 0.9, 0.08, 4, (60, 60, 62))
    pen.box(-0.42, -1, 0.42, 1, (28, 30, 30))
    lamps = ((235, 40, 30), (250, 190, 40), (60, 220, 110))
    lit = min(2, int(3 * progress))
    for k, glow in enumerate(lamps):
        y = 0.62 * (k - 1)
        pen.ellipse(0, y, 0.27, 0.27, (5, 5, 5))
        pen.ellipse(0, y, 0.23, 0.23, glow if k == lit else _mix(glow, 0, 0.65))
        pen.line(arc(0, y - 0.04, 0.3, 0.3, pi, 2 * pi), 0.04, (12, 12, 12))
        if k == lit:
            pen.ellipse(-0.06, y - 0.06, 0.08, 0.08, _mix(glow, 255, 0.5))


def _mix(colour: Colour, level: int, share: float) -> Colour:
    red, green, blue = (round(c + (level - c) * share) for c in colour)
    return red, green, blue


def draw_jack_o_lantern(pen: Pen, _progress: float) -> None:
    """Five ribs, a stem and a glowing face."""
    for rib, width in ((-2, 0.5), (2, 0.5), (-1, 0.6), (1, 0.6), (0, 0.55)):
        shade = (235 - 22 * abs(rib), 115 - 12 * abs(rib), 20)
        pen.ellipse(0.27 * rib, 0, width, 0.8, (170, 75, 10))
        pen.ellipse(0.27 * rib, 0, width - 0.02, 0.78, shade)
    pen.polygon([(-0.1, -0.75), (0.1, -0.75), (0.18, -1.05), (0.02, -1.0)], (70, 95, 30))
    glow = (255, 225, 90)
    for side in (-1, 1):
        pen.polygon([(0.55 * side, -0.1), (0.18 * side, -0.1), (0.36 * side, -0.42)], glow)
    pen.polygon([(-0.1, 0.12), (0.1, 0.12), (0, -0.05)], glow)
    upper = [(-0.65, 0.2), (-0.4, 0.32), (-0.3, 0.22), (-0.1, 0.35)]
    lower = [(-0.15, 0.48), (-0.25, 0.6), (-0.45, 0.5)]
    right = [(-x, y) for x, y in reversed(upper)] + [(-x, y) for x, y in reversed(lower)]
    pen.polygon(upper + right + lower, glow)


Motion = Callable[[float], tuple[Point, float, float]]
"""From progress 0 to 1 to centre (in widths and heights), size (in heights) and tilt."""

SCENES: tuple[tuple[Callable[[Pen, float], None], Colour, Colour, Motion], ...] = (
    (
        draw_umbrella,
        (110, 170, 230),
        (215, 235, 250),
        lambda t: ((0.35 + 0.3 * t, 0.38 + 0.16 * t), 0.29, 0.2 * sin(2 * pi * t)),
    ),
    (
        draw_daisy,
        (60, 110, 45),
        (100, 150, 60),
        lambda t: ((0.5 + 0.12 * sin(2 * pi * t), 0.45), 0.27, 0.15 * sin(2 * pi * t)),
    ),
    (
        draw_traffic_light,
        (70, 120, 180),
        (225, 200, 170),
        lambda t: ((0.4 + 0.2 * t, 0.48), 0.38, 0.0),
    ),
    (
        draw_jack_o_lantern,
        (30, 30, 40),
        (10, 10, 15),
        lambda t: ((0.5, 0.55), 0.18 + 0.2 * t, 0.08 * sin(4 * pi * t)),
    ),
)
"""What is drawn, the background's colours at top and bottom, and how it moves."""


def frames() -> Iterator[Image.Image]:
    """Every picture of the clip in order, RGB of WIDTH x HEIGHT."""
    count = round(SCENE_SECONDS * FPS)
    for draw, top, bottom, motion in SCENES:
        for k in range(count):
            picture = background(top, bottom)
            progress = k / (count - 1)
            (x, y), size, tilt = motion(progress)
            centre = (x * picture.width, y * picture.height)
            draw(Pen(picture, centre, size * picture.height, tilt), progress)
            yield picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def background(top: Colour, bottom: Colour) -> Image.Image:
    """A gradient from top to bottom, OVERSAMPLING times as large as the clip."""
    strip = Image.new("RGB", (1, 2))
    strip.putdata([top, bottom])
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    return strip.resize(size, Image.Resampling.BILINEAR)


def write(path: Path) -> None:
    """Encode the clip as H.264 in MP4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames():
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = Path(__file__).parents[1] / "examples" / "four_things.mp4"
    parser.add_argument("path", nargs="?", type=Path, default=default, help="where to write")
    write(parser.parse_args().path)
