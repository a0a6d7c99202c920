"""What happens in a clip, drawn by lot, before anything is painted or said."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random
from typing import Literal

from art import COLOURS, SHAPES, Art

Skill = Literal["naming", "colour", "count", "direction", "first", "presence"]
Motion = Literal["", "left", "right", "up", "down"]
Camera = Literal["still", "pan", "zoom"]
SKILLS: tuple[Skill, ...] = ("naming", "colour", "count", "direction", "first", "presence")
DIRECTIONS: tuple[Motion, ...] = ("left", "right", "up", "down")
MOST = 5
"""Things of one kind in a picture, at most."""
_HELD_OUT_ONE_IN = 5
_CORNERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75), (0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one picture stands, in parts of the frame's side."""

    x: float
    y: float
    size: float
    tilt_degrees: float


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One thing, or several of its kind, until the next cut."""

    name: str
    style: str
    colour: str
    asks_colour: bool
    """Whether the colour is the thing's own and may be asked for."""
    places: tuple[Place, ...]
    motion: Motion
    camera: Camera
    background: int
    """Seed of what is behind."""

    @property
    def phrase(self) -> str:
        """``red star``, ``banana``."""
        return f"{self.colour} {self.name}" if self.asks_colour else self.name


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Shots with hard cuts between them."""

    skill: Skill
    shots: tuple[Shot, ...]

    @property
    def combination(self) -> tuple[str, ...]:
        """What must not come together in both training and test; empty where nothing does."""
        shot = self.shots[0]
        return {
            "colour": (shot.colour, shot.name),
            "count": (str(len(shot.places)), shot.name),
            "direction": (shot.motion, shot.name),
            "first": tuple(s.name for s in self.shots),
        }.get(self.skill, ())


def draw_scene(lot: Random, art: Art, skill: Skill, *, style: str = "", test: bool) -> Scene:
    """A scene that a skill can be asked about.

    Args:
        lot: decides everything.
        art: names and styles.
        skill: what must be visible.
        style: of the pictures; one of those learned from when empty.
        test: take a combination that training never shows, else one that it may show.
    """
    while True:
        scene = _any_scene(lot, art, skill, style)
        if not scene.combination or is_held_out(scene.combination) == test:
            return scene


def is_held_out(combination: tuple[str, ...]) -> bool:
    """Whether a combination belongs to the test: one in five, whatever the seed."""
    return zlib.crc32(" ".join(combination).encode()) % _HELD_OUT_ONE_IN == 0


def _any_scene(lot: Random, art: Art, skill: Skill, style: str) -> Scene:
    names = tuple(SHAPES) if skill == "colour" else art.names
    chosen = lot.sample(names, 2 if skill == "first" else 1)
    return Scene(skill=skill, shots=tuple(_shot(lot, art, skill, n, style) for n in chosen))


def _shot(lot: Random, art: Art, skill: Skill, name: str, style: str) -> Shot:
    count = lot.randint(1, MOST) if skill == "count" else 1
    motion: Motion = lot.choice(DIRECTIONS) if skill == "direction" else ""
    return Shot(
        name=name,
        style=style or lot.choice(art.styles),
        colour=lot.choice(tuple(COLOURS)),
        asks_colour=name in SHAPES and skill == "colour",
        places=_places(lot, count, still=not motion),
        motion=motion,
        camera="still" if motion or count > 1 else lot.choice(("still", "pan", "zoom")),
        background=lot.getrandbits(32),
    )


def _places(lot: Random, count: int, *, still: bool) -> tuple[Place, ...]:
    if count == 1:
        middle = (lot.uniform(0.38, 0.62), lot.uniform(0.38, 0.62)) if still else (0.5, 0.5)
        return (_place(lot, middle, lot.uniform(0.4, 0.65) if still else 0.4),)
    corners = lot.sample(_CORNERS, count)
    return tuple(_place(lot, corner, lot.uniform(0.25, 0.33)) for corner in corners)


def _place(lot: Random, middle: tuple[float, float], size: float) -> Place:
    x, y = (m + lot.uniform(-0.03, 0.03) for m in middle)
    return Place(x=x, y=y, size=size, tilt_degrees=lot.uniform(-12, 12))
