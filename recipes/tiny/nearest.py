"""What the warm start alone knows: test questions answered with the words nearest to the tokens.

    python recipes/tiny/nearest.py BASE SCENES FEATURES warm.safetensors nearest.json

No language model is run. Blind is the same reading of features that are zero.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from align import names_in, of_clip, read_projector, read_rows
from kinema.evaluation.text import normalised_match
from table import BARS, most_frequent
from topics import Words, embed

Near = Mapping[str, Tensor]
"""float32[phrases] of each topic: the higher, the nearer."""


def main() -> None:
    """Answer, and write a table."""
    base, scenes, features, warm, output = map(Path, sys.argv[1:])
    reader = Reader(embed(base, names_in(scenes)))
    found = score(reader, base, scenes, features, warm)
    chance = json.loads((scenes / "about.json").read_text())["chance"]
    usual = most_frequent(scenes / "test.jsonl")
    for skill, row in found.items():
        row |= {"chance": chance[skill.partition(",")[0]], "most frequent answer": usual[skill]}
        row |= {"bar": BARS[skill]}
    output.write_text(json.dumps(found, indent=2) + "\n")
    print(output.read_text())


class Reader:
    """Reads answers off the words that tokens are near to."""

    def __init__(self, words: Mapping[str, Words]) -> None:
        self._words = words
        by_length = sorted(words["thing"].phrases, key=len, reverse=True)
        self._names = re.compile(rf"\b(?:{'|'.join(map(re.escape, by_length))})\b")

    def near(self, tokens: Tensor) -> Near:
        """From float32[1, NUM_TOKENS, hidden]."""
        return {name: own.logits(tokens)[0] for name, own in self._words.items()}

    def answer(self, skill: str, near: Near, question: str) -> str:
        """The answer to a question of a skill."""
        if skill == "first":
            return self._first(near, question)
        if skill == "presence":
            shown = {self._best(near, "thing"), self._best(near, "next thing")}
            return "yes" if shown & set(self._names.findall(question)) else "no"
        return self._best(near, {"naming": "thing"}.get(skill, skill))

    def _best(self, near: Near, topic: str) -> str:
        """The nearest phrase that says something."""
        phrases = self._words[topic].phrases
        spoken = near[topic].clone()
        if topic != "next thing":
            spoken[[i for i, phrase in enumerate(phrases) if not phrase]] = -torch.inf
        return phrases[int(spoken.argmax())]

    def _first(self, near: Near, question: str) -> str:
        """The one of the two that the tokens of the first thing are nearer to."""
        known = dict(zip(self._words["thing"].phrases, near["thing"].tolist(), strict=True))
        return max(self._names.findall(question), key=known.__getitem__, default="")


@torch.inference_mode()
def score(
    reader: Reader, base: Path, scenes: Path, features: Path, warm: Path
) -> dict[str, dict[str, float]]:
    """Percent of right answers by skill, with the frames and without."""
    projector = read_projector(base, warm)
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(scenes / "test.jsonl"):
        skill, frames = row["groups"]["skill"], of_clip(features, row["video"]).float()
        for name, shown in (("score", frames), ("blind", torch.zeros_like(frames))):
            near = reader.near(projector(shown.flatten(0, 1)[None]))
            answer = reader.answer(skill.partition(",")[0], near, row["question"])
            right[skill][name].append(normalised_match(answer, row["answers"]))
    return {
        skill: {"items": len(by["score"])}
        | {name: round(100 * sum(values) / len(values), 1) for name, values in by.items()}
        for skill, by in right.items()
    }


if __name__ == "__main__":
    main()
