"""Writes clips, what is learned from them (train.jsonl) and what is asked after (test.jsonl).

    python recipes/tiny/generate.py scenes --clips 24 --test 2
    python recipes/tiny/generate.py scenes --art emoji --names 860 --clips 20000 --test 100

The same flags write the same scenes and words. The test asks each skill about scenes of its own
and combinations (a colour and a shape; a count, direction or order and a name) that training never
shows. Naming it asks a second time in a style that training never shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from art import COLOURS, Art, Shapes
from film import write_video
from scenes import DIRECTIONS, MOST, SKILLS, Scene, Skill, draw_scene
from words import NUMBERS, Asked, ask, ask_everything

TURNS = 3
"""Questions about one clip in one conversation, at most."""


def main(words: Sequence[str] | None = None) -> None:
    """Write a folder of scenes."""
    options = _parser().parse_args(words)
    art = _art(options)
    write_training(options.folder, art, clips=options.clips, seed=options.seed)
    write_test(options.folder, art, per_skill=options.test, seed=options.seed)
    about = {"names": len(art.names), "chance": chance(art), "art": options.art}
    (options.folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def chance(art: Art) -> dict[str, float]:
    """Percent that a guess among the right kind of answers gets right."""
    ways = {"colour": len(COLOURS), "count": MOST, "direction": len(DIRECTIONS)}
    ways |= {"naming": len(art.names), "first": 2, "presence": 2}
    return {skill: round(100 / ways[skill], 2) for skill in SKILLS}


def write_training(folder: Path, art: Art, *, clips: int, seed: int) -> None:
    """``train/*.mp4`` and ``train.jsonl``, the skills in turn."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w") as file:
        for number in range(clips):
            lot = Random(f"{seed} train {number}")
            scene = draw_scene(lot, art, SKILLS[number % len(SKILLS)], test=False)
            video = f"train/{number:05}.mp4"
            write_video(folder / video, scene, art)
            asked = ask_everything(lot, scene, art)[:TURNS]
            row = {"id": f"{number:05}", "messages": _messages(video, asked), "meta": _meta(scene)}
            file.write(json.dumps(row) + "\n")


def write_test(folder: Path, art: Art, *, per_skill: int, seed: int) -> None:
    """``test/*.mp4`` and ``test.jsonl``, a question a clip."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    with (folder / "test.jsonl").open("w") as file:
        for name, scene, asked in _tests(art, per_skill, seed):
            video = f"test/{name}.mp4"
            write_video(folder / video, scene, art)
            unseen = scene.shots[0].style == art.unseen_style
            groups = {"skill": f"{scene.skill}{', unseen style' * unseen}"}
            row = {"id": name, "video": video, "question": asked.question}
            file.write(json.dumps(row | {"answers": [asked.answer], "groups": groups}) + "\n")


def _tests(art: Art, per_skill: int, seed: int) -> Iterator[tuple[str, Scene, Asked]]:
    rounds: list[tuple[Skill, str]] = [(skill, "") for skill in SKILLS]
    for skill, style in [*rounds, ("naming", art.unseen_style)]:
        for number in range(per_skill):
            name = f"{skill}-{style or 'seen'}-{number:03}"
            lot = Random(f"{seed} test {name}")
            scene = draw_scene(lot, art, skill, style=style, test=True)
            yield name, scene, ask(lot, scene, art, skill, yes=number % 2 == 0)


def _messages(video: str, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for question in asked:
        turns.append({"role": "user", "content": [{"type": "text", "text": question.question}]})
        turns.append({"role": "assistant", "content": question.answer})
    turns[0]["content"].insert(0, {"type": "video_url", "video_url": {"url": video}})
    return turns


def _meta(scene: Scene) -> dict[str, Any]:
    """What align.py learns from: everything that can be asked, as words."""
    shot = scene.shots[0]
    return {
        "things": [shot.name for shot in scene.shots],
        "colour": shot.colour if shot.asks_colour else "",
        "count": NUMBERS[len(shot.places) - 1],
        "direction": shot.motion,
    }


def _art(options: argparse.Namespace) -> Art:
    if options.art == "shapes":
        return Shapes()
    from emoji_sets import fetch  # noqa: PLC0415  needs a package that shapes do not

    return fetch(options.cache, count=options.names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--art", choices=("shapes", "emoji"), default="shapes")
    parser.add_argument("--names", type=int, default=860)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--test", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "kinema" / "emoji")
    return parser


if __name__ == "__main__":
    main()
