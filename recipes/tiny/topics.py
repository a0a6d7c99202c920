"""What the projector's tokens are to say of a clip: which words stand at which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer

from art import COLOURS, SHAPES
from scenes import DIRECTIONS
from words import NUMBERS

SHARPNESS = 20.0
"""Cosines times this are logits."""
NOTHING = "\n"
"""Stands where there is nothing to say, and after the last word of a short name."""
_EMBEDDINGS = "language_model.model.embed_tokens.weight"


@dataclass(frozen=True)
class Topic:
    """Something that can be asked about a clip, and the tokens that say it."""

    begin: int
    end: int


TOPICS = {
    "thing": Topic(0, 4),
    "next thing": Topic(4, 8),
    "colour": Topic(8, 9),
    "count": Topic(9, 10),
    "direction": Topic(10, 11),
}
NUM_TOKENS = max(topic.end for topic in TOPICS.values())


@dataclass(frozen=True)
class Words:
    """Phrases of one topic and where the language model keeps them."""

    topic: Topic
    phrases: tuple[str, ...]
    directions: Tensor
    """float32[phrases, J, hidden] for the topic's J tokens, from the middle of all embeddings."""
    middle: Tensor
    """float32[hidden]."""

    def logits(self, tokens: Tensor) -> Tensor:
        """float32[B, NUM_TOKENS, hidden] to float32[B, phrases]."""
        said = normalize(self._own(tokens), dim=-1)
        return SHARPNESS * torch.einsum("bjh,pjh->bp", said, normalize(self.directions, dim=-1))

    def positions(self, said: Iterable[str]) -> Tensor:
        """int64[B], where phrases stand among these."""
        return torch.tensor([self.phrases.index(phrase) for phrase in said])

    def length_error(self, tokens: Tensor) -> Tensor:
        """How far tokens are from being as long as words, squared and relative."""
        usual = self.directions.norm(dim=-1).mean()
        return ((self._own(tokens).norm(dim=-1) / usual - 1) ** 2).mean()

    def _own(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.topic.begin : self.topic.end] - self.middle


def said(meta: Mapping[str, Any]) -> dict[str, str]:
    """The phrase of every topic for a clip that generate.py described."""
    things: Sequence[str] = [*meta["things"], ""]
    named = {"thing": things[0], "next thing": things[1]}
    return named | {topic: meta[topic] for topic in ("colour", "count", "direction")}


def embed(base: Path, names: Sequence[str]) -> dict[str, Words]:
    """The words of every topic, of which only names of things are not known beforehand."""
    things = tuple(sorted({*names, *SHAPES}))
    phrases = {
        "thing": things,
        "next thing": ("", *things),
        "colour": ("", *COLOURS),
        "count": NUMBERS,
        "direction": ("", *DIRECTIONS),
    }
    tokenizer = AutoTokenizer.from_pretrained(base)
    with safe_open(base / "model.safetensors", framework="pt") as file:
        table = file.get_tensor(_EMBEDDINGS).float()
    middle = table.mean(0)
    return {
        name: Words(
            topic, phrases[name], _rows(tokenizer, table, topic, phrases[name]) - middle, middle
        )
        for name, topic in TOPICS.items()
    }


def _rows(tokenizer: Any, table: Tensor, topic: Topic, phrases: Sequence[str]) -> Tensor:
    """float32[phrases, J, hidden]: the embeddings of each phrase's first J tokens."""
    room = topic.end - topic.begin
    (nothing,) = tokenizer.encode(NOTHING, add_special_tokens=False)
    ids = [
        tokenizer.encode(f" {phrase}" if phrase else "", add_special_tokens=False)
        for phrase in phrases
    ]
    return torch.stack([table[[*row, *[nothing] * room][:room]] for row in ids])
