"""Teaches the projector words before any language model is run: minutes instead of days.

    python recipes/tiny/align.py BASE SCENES FEATURES warm.safetensors

Each of its tokens shall point where the language model's own embedding of a word points: the name
of what is shown, of what comes after a cut, the colour, the count, the direction. The file is what
``kinema train --pretrain-mm-mlp-adapter`` starts from; ``nearest.py`` says what it has learned.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout
from transformers import AutoConfig

import kinema.models.videolm  # noqa: F401  (tells AutoConfig about VideoLM)
from base import GRID
from kinema.models.videolm.features import load_features
from kinema.models.videolm.projector import build_projector
from scenes import is_held_out
from topics import Words, embed, said

BATCH, LEARNING_RATE, DROPOUT = 64, 1e-3, 0.2
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "": ""}
_CUT_SHARE = 0.25
"""Of the clips that show one thing at rest: joined to another of them, with a cut."""


@dataclass(frozen=True)
class Clip:
    """What the tower saw, and what is to be said."""

    frames: Tensor
    """float16[T, S, D]."""
    said: Mapping[str, str]

    @property
    def is_at_rest(self) -> bool:
        """One thing without colour or motion, which may be joined to another."""
        told = self.said
        return told["count"] == "one" and not (
            told["next thing"] or told["colour"] or told["direction"]
        )


def main() -> None:
    """Align a projector and save it."""
    options = _parser().parse_args()
    torch.manual_seed(0)
    clips = read_clips(options.scenes, options.features)
    words = embed(options.base, names_in(options.scenes))
    projector = read_projector(options.base)
    align(projector, words, clips, epochs=options.epochs)
    weights = {f"projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    save_file(weights, options.output)


def align(
    projector: nn.Module, words: Mapping[str, Words], clips: list[Clip], *, epochs: int
) -> None:
    """Train the projector, float32[B, T*S, D] to float32[B, NUM_TOKENS, hidden].

    Args:
        projector: learns in place.
        words: what it is to say, by topic.
        clips: all of one number of frames.
        epochs: times that every clip is seen.
    """
    steps = epochs * -(-len(clips) // BATCH)
    optimiser = torch.optim.AdamW(projector.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for epoch in range(epochs):
        losses = []
        for batch in _batches(clips, Random(epoch)):
            loss = _loss(words, _tokens(projector, batch), batch)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {epochs}: loss {sum(losses) / len(losses):.3f}", flush=True)


def _tokens(projector: nn.Module, batch: list[Clip]) -> Tensor:
    """float32[B, NUM_TOKENS, hidden] of clips of which the projector sees most, not all."""
    frames = torch.stack([clip.frames for clip in batch]).float().flatten(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        tokens: Tensor = projector(dropout(frames, DROPOUT))
    return tokens.float()


def _loss(words: Mapping[str, Words], tokens: Tensor, batch: list[Clip]) -> Tensor:
    losses = [
        cross_entropy(own.logits(tokens), own.positions(clip.said[topic] for clip in batch))
        + own.length_error(tokens)
        for topic, own in words.items()
    ]
    return torch.stack(losses).sum()


def _batches(clips: list[Clip], lot: Random) -> Iterator[list[Clip]]:
    """Every clip once, some of them backwards or cut together with another."""
    at_rest = [clip for clip in clips if clip.is_at_rest]
    shuffled = [_varied(clip, at_rest, lot) for clip in lot.sample(clips, len(clips))]
    for begin in range(0, len(shuffled), BATCH):
        yield shuffled[begin : begin + BATCH]


def _varied(clip: Clip, at_rest: list[Clip], lot: Random) -> Clip:
    if clip.is_at_rest and lot.random() < _CUT_SHARE:
        clip = _cut(clip, lot.choice(at_rest))
    return _backwards(clip) if lot.random() < 0.5 else clip


def _cut(clip: Clip, other: Clip) -> Clip:
    """The first half of one clip and the second of another, unless the test asks for that order."""
    names = (clip.said["thing"], other.said["thing"])
    if names[0] == names[1] or is_held_out(names):
        return clip
    half = len(clip.frames) // 2
    frames = torch.cat([clip.frames[:half], other.frames[half:]])
    return Clip(frames, {**clip.said, "next thing": names[1]})


def _backwards(clip: Clip) -> Clip:
    """Things go where they came from and come in the other order, unless the test asks for that."""
    told = dict(clip.said)
    told["direction"] = _OPPOSITE[told["direction"]]
    if told["next thing"]:
        told["thing"], told["next thing"] = told["next thing"], told["thing"]
        combination: tuple[str, ...] = (told["thing"], told["next thing"])
    else:
        combination = (told["direction"], told["thing"]) if told["direction"] else ()
    if combination and is_held_out(combination):
        return clip
    return Clip(clip.frames.flip(0), told)


def read_clips(scenes: Path, features: Path) -> list[Clip]:
    """The training clips."""
    rows = read_rows(scenes / "train.jsonl")
    return [Clip(of_clip(features, _video(row)), said(row["meta"])) for row in rows]


def names_in(scenes: Path) -> list[str]:
    """Names of all things that training shows."""
    return [name for row in read_rows(scenes / "train.jsonl") for name in row["meta"]["things"]]


def of_clip(features: Path, video: str) -> Tensor:
    """What the tower saw in a clip, float16[T, S, D]."""
    rows, _ = load_features(features / f"{video}.safetensors")
    return rows[:, 0].unflatten(0, (-1, GRID**2))


def read_projector(base: Path, weights: Path | None = None) -> nn.Module:
    """The projector of a model folder, with weights of another file where one is given."""
    config = AutoConfig.from_pretrained(base)
    projector = build_projector(
        config.projector,
        in_size=config.vision_hidden_size,
        out_size=config.text_config.hidden_size,
        layout=config.layout,
    )
    found = load_file(weights or base / "model.safetensors")
    own = {n.removeprefix("projector."): t.float() for n, t in found.items() if "projector." in n}
    projector.load_state_dict(own)
    return projector


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _video(row: dict[str, Any]) -> str:
    path: str = row["messages"][0]["content"][0]["video_url"]["url"]
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("base", "scenes", "features", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    return parser


if __name__ == "__main__":
    main()
