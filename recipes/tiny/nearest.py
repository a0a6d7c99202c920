"""What the warm start alone knows: test questions answered with the words nearest to the tokens.

    python recipes/tiny/nearest.py BASE SCENES FEATURES warm.safetensors nearest.json

No language model is run, so only questions about words can be answered: what it is, its colour,
which came first, whether it is there. Blind is the same reading of features that are zero.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from align import Words, embed, learned, of_clip, phrases_of, read_projector, read_rows
from art import COLOURS, SHAPES
from kinema.evaluation.text import normalised_match
from table import BARS, most_frequent


def main() -> None:
    """Answer, and write a table."""
    base, scenes, features, warm, output = map(Path, sys.argv[1:])
    coloured = {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES}
    words = embed(base, sorted(coloured | set(phrases_of(learned(scenes)))))
    found = score(words, scenes, features, warm)
    chance = json.loads((scenes / "about.json").read_text())["chance"]
    usual = most_frequent(scenes / "test.jsonl")
    for skill, row in found.items():
        row |= {"chance": chance[skill.partition(",")[0]], "most frequent answer": usual[skill]}
        row |= {"bar": BARS[skill]}
    output.write_text(json.dumps(found, indent=2) + "\n")
    print(output.read_text())


@torch.inference_mode()
def score(words: Words, scenes: Path, features: Path, warm: Path) -> dict[str, dict[str, float]]:
    """Percent of right answers by skill, with the frames and without."""
    projector = read_projector(warm)
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(scenes / "test.jsonl"):
        skill, frames = row["groups"]["skill"], of_clip(features, row["video"]).float()
        read = READERS.get(skill.partition(",")[0])
        for name, shown in (("score", frames), ("blind", torch.zeros_like(frames))):
            if read is not None:
                answer = read(words, words.logits(projector(shown)), row["question"])
                right[skill][name].append(normalised_match(answer, row["answers"]))
    return {
        skill: {"items": len(by["score"])}
        | {name: round(100 * sum(values) / len(values), 1) for name, values in by.items()}
        for skill, by in right.items()
    }


def _name(words: Words, logits: Tensor, _: str) -> str:
    return words.phrases[int(logits.sum(0).argmax())]


def _colour(words: Words, logits: Tensor, question: str) -> str:
    """The likeliest colour of the shape that was asked about."""
    things = _mentioned(words, question)
    near = logits.sum(0)
    scores = {
        colour: float(near[words.phrases.index(f"{colour} {thing}")])
        for colour in COLOURS
        for thing in things
    }
    return max(scores, key=scores.__getitem__)


def _first(words: Words, logits: Tensor, question: str) -> str:
    """The one of the two that the first half shows more clearly than the second."""
    half = len(logits) // 2
    leads = (logits[:half].mean(0) - logits[half:].mean(0)).tolist()
    # A name that no clip taught has no words of its own, and leads by nothing.
    known = dict(zip(words.phrases, leads, strict=True))
    return max(_mentioned(words, question), key=lambda name: known.get(name, 0.0))


def _presence(words: Words, logits: Tensor, question: str) -> str:
    """Yes where no other words are nearer in some frame."""
    nearest = {words.phrases[i] for i in logits.argmax(-1).tolist()}
    return "yes" if nearest & set(_mentioned(words, question)) else "no"


def _mentioned(words: Words, question: str) -> list[str]:
    """Phrases and shapes that a question names, in order; longer ones win."""
    by_length = sorted({*words.phrases, *SHAPES}, key=len, reverse=True)
    return re.findall(rf"\b(?:{'|'.join(map(re.escape, by_length))})\b", question)


READERS: dict[str, Callable[[Words, Tensor, str], str]] = {
    "naming": _name,
    "colour": _colour,
    "first": _first,
    "presence": _presence,
}
"""How the nearest words answer; skills without one cannot be answered by words alone."""


if __name__ == "__main__":
    main()
