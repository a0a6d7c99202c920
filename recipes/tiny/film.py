"""Paints scenes: background, things, camera; and writes them as video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import av
from PIL import Image, ImageDraw

from art import Art
from scenes import Scene, Shot

SIDE, FPS, NUM_FRAMES = 224, 4, 8
_TRAVEL = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_REACH = 0.32
"""How far a thing goes to either side of the middle, in parts of the frame."""


def write_video(path: Path, scene: Scene, art: Art) -> None:
    """An MP4 of two seconds; the same scene gives the same frames."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 2, 4
        for picture in paint(scene, art):
            output.mux(stream.encode(av.VideoFrame.from_image(picture)))
        output.mux(stream.encode(None))


def paint(scene: Scene, art: Art) -> Iterator[Image.Image]:
    """The frames in order, RGB."""
    per_shot = NUM_FRAMES // len(scene.shots)
    for shot in scene.shots:
        behind = _background(Random(shot.background))
        for k in range(per_shot):
            yield _frame(shot, art, behind.copy(), time=k / (per_shot - 1))


def _frame(shot: Shot, art: Art, canvas: Image.Image, *, time: float) -> Image.Image:
    """One frame, ``time`` from 0 at the shot's beginning to 1 at its end."""
    drawn = art.picture(shot.name, shot.style, shot.colour)
    dx, dy = _TRAVEL.get(shot.motion, (0, 0))
    shift = _REACH * (2 * time - 1)
    for place in shot.places:
        side = round(place.size * SIDE)
        thing = drawn.resize((side, side)).rotate(place.tilt_degrees, Image.Resampling.BILINEAR)
        x, y = ((c + d * shift) * SIDE for c, d in ((place.x, dx), (place.y, dy)))
        canvas.paste(thing, (round(x - side / 2), round(y - side / 2)), thing)
    return _seen(canvas, shot, time)


def _seen(canvas: Image.Image, shot: Shot, time: float) -> Image.Image:
    """What the camera shows of the canvas."""
    if shot.camera == "still":
        return canvas
    margin = 0.06 * SIDE
    inset = margin * 2 * time if shot.camera == "zoom" else margin
    shift = margin * (2 * time - 1) if shot.camera == "pan" else 0.0
    box = (inset + shift, inset, SIDE - inset + shift, SIDE - inset)
    return canvas.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def _background(lot: Random) -> Image.Image:
    """Plain, fading or patched, in muted colours."""
    canvas = Image.new("RGB", (SIDE, SIDE), _muted(lot))
    kind = lot.choice(("plain", "fading", "patches"))
    if kind == "fading":
        fade = Image.linear_gradient("L").resize(canvas.size).rotate(lot.choice((0, 90, 180)))
        return Image.composite(Image.new("RGB", canvas.size, _muted(lot)), canvas, fade)
    if kind == "patches":
        pen = ImageDraw.Draw(canvas)
        for _ in range(lot.randint(2, 5)):
            x, y = lot.uniform(0, SIDE), lot.uniform(0, SIDE)
            width, height = lot.uniform(40, 120), lot.uniform(40, 120)
            pen.rectangle((x, y, x + width, y + height), fill=_muted(lot))
    return canvas


def _muted(lot: Random) -> tuple[int, int, int]:
    grey = lot.randint(60, 200)
    red, green, blue = (max(0, min(255, grey + lot.randint(-35, 35))) for _ in range(3))
    return red, green, blue
