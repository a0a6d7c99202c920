"""Draws a held-out set and a multiple-choice benchmark, both with known answers.

Each clip shows three of eight things, one after the other, none of which is in the example clip.
``FOLDER`` is then a data set in MVBench's layout (``json/``, ``video/``) and one of your own
questions (``held_out.jsonl``):

    uv run python scripts/make_drawn_benchmarks.py FOLDER --clips 24
    uv run kinema eval mvbench FOLDER --blind
    uv run kinema eval jsonl FOLDER --blind
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import av
from PIL import Image

from make_example_clip import Colour, Pen, arc, background

WIDTH, HEIGHT, FPS = 320, 240, 10
SCENES, SCENE_SECONDS = 3, 1.5
BLACK: Colour = (18, 18, 18)


def draw_balloon(pen: Pen) -> None:
    """A hot-air balloon of striped cloth over a basket."""
    colours = ((200, 40, 40), (240, 190, 40), (40, 110, 190))
    for k, width in enumerate((0.8, 0.62, 0.42, 0.2)):
        pen.ellipse(0, -0.25, width, 0.8, colours[k % 3])
    pen.polygon([(-0.5, 0.35), (0.5, 0.35), (0.14, 0.72), (-0.14, 0.72)], colours[0])
    for x in (-0.14, -0.05, 0.05, 0.14):
        pen.line([(x, 0.7), (0.8 * x, 0.86)], 0.012, (60, 50, 40))
    pen.box(-0.13, 0.85, 0.13, 1.0, (120, 80, 45))


def draw_clock(pen: Pen) -> None:
    """A white dial in a dark ring, sixty strokes and two hands."""
    pen.ellipse(0, 0, 0.95, 0.95, (50, 32, 20))
    pen.ellipse(0, 0, 0.82, 0.82, (248, 246, 238))
    for k in range(60):
        x, y = cos(k * pi / 30), sin(k * pi / 30)
        inner, width = (0.68, 0.035) if k % 5 == 0 else (0.74, 0.012)
        pen.line([(inner * x, inner * y), (0.78 * x, 0.78 * y)], width, BLACK)
    for angle, length, width in ((-0.67, 0.42, 0.06), (0.63, 0.62, 0.04)):
        x, y = cos(angle), sin(angle)
        pen.line([(-0.1 * x, -0.1 * y), (length * x, length * y)], width, BLACK)


def draw_candle(pen: Pen) -> None:
    """A lit candle."""
    pen.box(-0.22, -0.1, 0.22, 1.0, (240, 232, 210))
    pen.box(0.1, -0.1, 0.22, 1.0, (215, 205, 180))
    pen.ellipse(0, -0.1, 0.22, 0.07, (250, 244, 226))
    pen.line([(0, -0.1), (0, -0.28)], 0.03, (40, 30, 25))
    for size, colour in ((1.0, (255, 150, 30)), (0.7, (255, 205, 70)), (0.4, (255, 245, 190))):
        lower = [(0.13 * size, -0.35), (0.06 * size, -0.24)]
        mirrored = [(-x, y) for x, y in reversed(lower)]
        pen.polygon([(0, -0.26 - 0.6 * size), *lower, *mirrored], colour)


def draw_bow_tie(pen: Pen) -> None:
    """A red bow tie with white dots."""
    for side in (-1, 1):
        pen.polygon(
            [(0, 0), (0.9 * side, -0.5), (0.97 * side, 0), (0.9 * side, 0.5)], (150, 20, 30)
        )
        pen.polygon(
            [(0.1 * side, 0), (0.8 * side, -0.35), (0.85 * side, 0), (0.8 * side, 0.1)],
            (185, 35, 45),
        )
        for k in range(5):
            pen.ellipse((0.3 + 0.13 * k) * side, 0.15 * (k % 3 - 1), 0.04, 0.04, (240, 240, 240))
    pen.box(-0.16, -0.2, 0.16, 0.2, (120, 12, 22))


def draw_tennis_ball(pen: Pen) -> None:
    """A yellow ball with its curved seam."""
    pen.ellipse(0, 0, 0.9, 0.9, (150, 170, 30))
    pen.ellipse(-0.05, -0.08, 0.84, 0.82, (205, 225, 60))
    for x, middle in ((-1.05, 0.0), (1.05, pi)):
        pen.line(arc(x, 0, 0.75, 0.85, middle - 1, middle + 1), 0.06, (245, 245, 240))


def draw_parachute(pen: Pen) -> None:
    """A red and white canopy, its lines and a small jumper."""
    red, white = (210, 50, 40), (245, 245, 240)
    for width, colour in ((0.95, red), (0.7, white), (0.45, red), (0.18, white)):
        pen.polygon(arc(0, -0.2, width, 0.7, pi, 2 * pi), colour)
    for x in (-0.95, -0.6, -0.2, 0.2, 0.6, 0.95):
        pen.line([(x, -0.2), (0, 0.75)], 0.012, (40, 40, 40))
    pen.ellipse(0, 0.75, 0.07, 0.08, (40, 40, 50))
    pen.box(-0.07, 0.8, 0.07, 1.0, (40, 40, 60))


def draw_banana(pen: Pen) -> None:
    """A yellow crescent."""
    outer = arc(0, -0.9, 1.15, 1.5, pi * 0.12, pi * 0.88)
    inner = arc(0, -1.0, 1.05, 1.05, pi * 0.88, pi * 0.12)
    pen.polygon(outer + inner, (200, 160, 30))
    pen.polygon(arc(0, -1.0, 1.1, 1.4, pi * 0.14, pi * 0.86) + inner, (248, 218, 64))
    (x, y), (left, bottom) = outer[0], outer[-1]
    pen.polygon([(x - 0.05, y), (x + 0.05, y), (x + 0.1, y - 0.25), (x, y - 0.25)], (110, 85, 30))
    pen.ellipse(left, bottom, 0.07, 0.07, (80, 60, 25))


def draw_strawberry(pen: Pen) -> None:
    """A red fruit with seeds and leaves."""
    half = [(0.35, 0.75), (0.65, 0.25), (0.72, -0.2), (0.5, -0.5)]
    body = [(0, 1.0), *half, (0, -0.45), *((-x, y) for x, y in reversed(half))]
    pen.polygon([(x, y) for x, y in body], (200, 25, 36))
    for row in range(6):
        for column in range(-3, 4):
            x, y = 0.2 * column + 0.1 * (row % 2), -0.3 + 0.2 * row
            if abs(x) < 0.6 - 0.55 * max(0, y):
                pen.ellipse(x, y, 0.025, 0.04, (245, 215, 110))
    for k in range(7):
        angle = -pi + k * pi / 6
        tip = (0.5 * cos(angle), -0.5 + 0.25 * sin(angle))
        pen.polygon([(-0.08, -0.45), (0.08, -0.45), tip], (60, 140, 50))


THINGS: dict[str, Callable[[Pen], None]] = {
    "a balloon": draw_balloon,
    "an analog clock": draw_clock,
    "a candle": draw_candle,
    "a bow tie": draw_bow_tie,
    "a tennis ball": draw_tennis_ball,
    "a parachute": draw_parachute,
    "a banana": draw_banana,
    "a strawberry": draw_strawberry,
}
BACKGROUNDS: tuple[tuple[Colour, Colour], ...] = (
    ((110, 170, 230), (215, 235, 250)),
    ((60, 110, 45), (100, 150, 60)),
    ((225, 215, 200), (170, 150, 130)),
    ((30, 30, 40), (10, 10, 15)),
)


@dataclass(frozen=True)
class Scene:
    """One thing, where it moves and on what."""

    thing: str
    colours: tuple[Colour, Colour]
    way: tuple[tuple[float, float], tuple[float, float]]
    """Centre at the beginning and at the end, in widths and heights."""
    size: float

    def pictures(self) -> Iterator[Image.Image]:
        """RGB of WIDTH x HEIGHT."""
        count = round(SCENE_SECONDS * FPS)
        for k in range(count):
            picture = background(*self.colours)
            (x0, y0), (x1, y1) = self.way
            t = k / (count - 1)
            centre = ((x0 + t * (x1 - x0)) * picture.width, (y0 + t * (y1 - y0)) * picture.height)
            THINGS[self.thing](Pen(picture, centre, self.size * picture.height, 0.1 * sin(3 * t)))
            yield picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def scenes(chance: random.Random) -> list[Scene]:
    """Three things in random order, at random places."""

    def place() -> tuple[float, float]:
        return chance.uniform(0.4, 0.6), chance.uniform(0.44, 0.56)

    return [
        Scene(thing, chance.choice(BACKGROUNDS), (place(), place()), chance.uniform(0.27, 0.36))
        for thing in chance.sample(list(THINGS), SCENES)
    ]


def encode(path: Path, shown: Sequence[Scene]) -> None:
    """Write a clip as H.264 in MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for scene in shown:
            for picture in scene.pictures():
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


Row = dict[str, Any]


def open_questions(video: str, shown: Sequence[str], chance: random.Random) -> list[Row]:
    """What is shown, whether something is there, and when."""
    absent = chance.choice([thing for thing in THINGS if thing not in shown])
    when = chance.randrange(SCENES)
    span = f"{when * SCENE_SECONDS} {(when + 1) * SCENE_SECONDS}"
    asked = [
        ("what", "What does the video show?", "text", ", then ".join(shown)),
        ("is it there", f"Is there {chance.choice(shown)}?", "text", "yes"),
        ("is it there", f"Is there {absent}?", "text", "no"),
        ("when", f"{shown[when]} is in the video", "span", span),
    ]
    return [
        {"video": video, "question": q, "task": task, "answer": answer, "groups": {"kind": kind}}
        for kind, q, task, answer in asked
    ]


def choices(video: str, shown: Sequence[str], chance: random.Random) -> dict[str, Row]:
    """One MVBench row a task."""
    absent = [thing for thing in THINGS if thing not in shown]
    before, after = chance.choice(list(pairwise(shown)))
    asked = {
        "object_existence": (
            "Which of these things does the video show?",
            [seen := chance.choice(shown), *chance.sample(absent, 3)],
            seen,
        ),
        "what_comes_next": (
            f"What comes after {before}?",
            [after, *chance.sample(absent, 3)],
            after,
        ),
    }
    rows = {}
    for task, (question, options, answer) in asked.items():
        chance.shuffle(options)
        rows[task] = {"video": video, "question": question, "candidates": options, "answer": answer}
    return rows


def write(folder: Path, *, clips: int, seed: int) -> None:
    """Clips, ``json/<task>.json`` and ``held_out.jsonl``."""
    chance = random.Random(seed)
    lines: list[Row] = []
    tasks: dict[str, list[Row]] = {}
    for i in range(clips):
        shown, name = scenes(chance), f"drawn_{i:03d}.mp4"
        encode(folder / "video" / name, shown)
        things = [scene.thing for scene in shown]
        lines += open_questions(f"video/{name}", things, chance)
        for task, row in choices(name, things, chance).items():
            tasks.setdefault(task, []).append(row)
    (folder / "json").mkdir(exist_ok=True)
    for task, rows in tasks.items():
        (folder / "json" / f"{task}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "held_out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write(asked.folder, clips=asked.clips, seed=asked.seed)
