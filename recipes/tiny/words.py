"""Questions about a scene and their answers, in changing words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from art import Art
from scenes import Scene, Skill

NUMBERS = ("one", "two", "three", "four", "five")
_NAMING = ("What is shown?", "What is this?", "What do you see?", "Name the thing in the video.")
_COLOUR = ("What colour is the {}?", "Which colour does the {} have?", "The {}: what colour?")
_COUNT = ("How many are there?", "How many things are shown?", "Count the things.")
_DIRECTION = ("Where does it move?", "In which direction does it go?", "Which way does it move?")
_FIRST = ("Which came first, the {} or the {}?", "What was seen first, {} or {}?")
_PRESENCE = ("Is there {}?", "Does the video show {}?", "Can {} be seen?")
_CAPTION = ("Describe the video.", "What happens?", "Say what the video shows.")


@dataclass(frozen=True)
class Asked:
    """One question and its answer."""

    skill: Skill | None
    """None for a caption, which has no single right answer."""
    question: str
    answer: str


def ask(lot: Random, scene: Scene, art: Art, skill: Skill, *, yes: bool = True) -> Asked:
    """A question of a skill that the scene can answer; ``yes`` decides what a presence is."""
    question, answer = _ASK[skill](lot, scene, art, yes)
    return Asked(skill, question, answer)


def ask_everything(lot: Random, scene: Scene, art: Art) -> list[Asked]:
    """All that training may ask about a scene, in any order."""
    skills: list[Skill] = [scene.skill, "presence"]
    if len(scene.shots) == 1 and scene.skill not in ("naming", "colour"):
        skills.append("naming")
    asked = [ask(lot, scene, art, skill, yes=lot.random() < 0.5) for skill in skills]
    asked.append(Asked(None, lot.choice(_CAPTION), caption(lot, scene)))
    lot.shuffle(asked)
    return asked


def caption(lot: Random, scene: Scene) -> str:
    """A sentence about everything that happens."""
    said = [with_article(shot.phrase) for shot in scene.shots]
    shot = scene.shots[0]
    if len(said) == 2:
        return lot.choice(("First {}, then {}.", "{} comes first, {} after it.")).format(*said)
    if shot.motion:
        return lot.choice(("{} moves {}.", "{} goes {}.")).format(said[0], _ways(shot.motion))
    if len(shot.places) > 1:
        return f"{NUMBERS[len(shot.places) - 1]} times {said[0]}."
    return lot.choice(("{}.", "The video shows {}.", "There is {}.")).format(said[0])


def with_article(name: str) -> str:
    """``a banana``, ``an umbrella``."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _ways(motion: str) -> str:
    return f"to the {motion}" if motion in ("left", "right") else motion


def _naming(lot: Random, scene: Scene, _: Art, __: bool) -> tuple[str, str]:
    return lot.choice(_NAMING), with_article(scene.shots[0].name)


def _colour(lot: Random, scene: Scene, _: Art, __: bool) -> tuple[str, str]:
    return lot.choice(_COLOUR).format(scene.shots[0].name), scene.shots[0].colour


def _count(lot: Random, scene: Scene, _: Art, __: bool) -> tuple[str, str]:
    return lot.choice(_COUNT), NUMBERS[len(scene.shots[0].places) - 1]


def _direction(lot: Random, scene: Scene, _: Art, __: bool) -> tuple[str, str]:
    return lot.choice(_DIRECTION), scene.shots[0].motion


def _first(lot: Random, scene: Scene, _: Art, __: bool) -> tuple[str, str]:
    names = [shot.name for shot in scene.shots]
    return lot.choice(_FIRST).format(*lot.sample(names, 2)), with_article(names[0])


def _presence(lot: Random, scene: Scene, art: Art, yes: bool) -> tuple[str, str]:
    shown = [shot.name for shot in scene.shots]
    others = [name for name in art.names if name not in shown]
    asked = with_article(lot.choice(shown if yes else others))
    return lot.choice(_PRESENCE).format(asked), _YES[yes]


_YES = {True: "yes", False: "no"}
_ASK: dict[Skill, Callable[[Random, Scene, Art, bool], tuple[str, str]]] = {
    "naming": _naming,
    "colour": _colour,
    "count": _count,
    "direction": _direction,
    "first": _first,
    "presence": _presence,
}
