"""Teaches the projector names before any language model is run: minutes instead of days.

    python recipes/tiny/align.py BASE SCENES FEATURES warm.safetensors

In every frame some token shall point where the language model's own embedding of the words points
("banana", "red star"). The file is what ``kinema train --pretrain-mm-mlp-adapter`` starts from;
``nearest.py`` says what it has learned.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoTokenizer

from base import GRID
from kinema.models.videolm.features import load_features

SHARPNESS = 20.0
"""Cosines times this are logits."""
BATCH, LEARNING_RATE = 32, 1e-3
_EMBEDDINGS = "language_model.model.embed_tokens.weight"


@dataclass(frozen=True)
class Words:
    """Phrases and where the language model keeps them."""

    phrases: tuple[str, ...]
    directions: Tensor
    """float32[phrases, hidden], from the middle of all embeddings."""
    middle: Tensor
    """float32[hidden]."""

    def logits(self, tokens: Tensor) -> Tensor:
        """float32[B, S, hidden] to float32[B, phrases]: the best of a frame's S tokens counts."""
        cosines = normalize(tokens - self.middle, dim=-1) @ normalize(self.directions, dim=-1).T
        return (SHARPNESS * cosines).logsumexp(1)

    def length_error(self, tokens: Tensor) -> Tensor:
        """How far tokens are from being as long as words, squared and relative."""
        usual = self.directions.norm(dim=-1).mean()
        return (((tokens - self.middle).norm(dim=-1) / usual - 1) ** 2).mean()


def main() -> None:
    """Align a projector and save it."""
    options = _parser().parse_args()
    torch.manual_seed(0)
    pairs = learned(options.scenes)
    words = embed(options.base, phrases_of(pairs))
    projector = read_projector(options.base / "model.safetensors")
    frames, targets = _frames(options.features, pairs, words)
    align(projector, words, frames, targets, epochs=options.epochs)
    weights = {f"projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    save_file(weights, options.output)


def align(
    projector: nn.Module, words: Words, frames: Tensor, targets: Tensor, *, epochs: int
) -> None:
    """Train the projector.

    Args:
        projector: float32[B, S, D] to float32[B, S, hidden].
        words: what it is to say.
        frames: float16[N, S, D].
        targets: int64[N] positions in ``words.phrases``.
        epochs: times that every frame is seen.
    """
    steps = epochs * -(-len(frames) // BATCH)
    optimiser = torch.optim.AdamW(projector.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(frames)).split(BATCH):
            tokens = projector(frames[chosen].float())
            loss = cross_entropy(words.logits(tokens), targets[chosen])
            optimiser.zero_grad()
            (loss + words.length_error(tokens)).backward()
            optimiser.step()
            schedule.step()


def learned(scenes: Path) -> list[tuple[str, list[str]]]:
    """Training clips and the phrase of each of their shots."""
    rows = read_rows(scenes / "train.jsonl")
    return [(_video(row), row["meta"]["phrases"]) for row in rows]


def phrases_of(pairs: list[tuple[str, list[str]]]) -> list[str]:
    """All phrases that clips are described with, sorted."""
    return sorted({phrase for _, said in pairs for phrase in said})


def embed(base: Path, phrases: list[str]) -> Words:
    """The mean embedding of each phrase's tokens."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    with safe_open(base / "model.safetensors", framework="pt") as file:
        table = file.get_tensor(_EMBEDDINGS).float()
    ids = [tokenizer.encode(f" {phrase}", add_special_tokens=False) for phrase in phrases]
    middle = table.mean(0)
    return Words(tuple(phrases), torch.stack([table[i].mean(0) for i in ids]) - middle, middle)


def read_projector(path: Path) -> nn.Sequential:
    """The projector in a file of weights, mlp2x_gelu."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("projector.")]  # noqa: SIM118
        weights = {name.removeprefix("projector."): file.get_tensor(name).float() for name in names}
    hidden, width = weights["0.weight"].shape
    projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
    projector.load_state_dict(weights)
    return projector


def _frames(
    features: Path, pairs: list[tuple[str, list[str]]], words: Words
) -> tuple[Tensor, Tensor]:
    """Every frame, float16[N, S, D], and the position of what it shows, int64[N]."""
    position = {phrase: i for i, phrase in enumerate(words.phrases)}
    frames, targets = [], []
    for video, said in pairs:
        clip = of_clip(features, video)
        frames.append(clip)
        targets += [position[said[k * len(said) // len(clip)]] for k in range(len(clip))]
    return torch.cat(frames), torch.tensor(targets)


def of_clip(features: Path, video: str) -> Tensor:
    """What the tower saw in a clip, float16[T, S, D]."""
    rows, _ = load_features(features / f"{video}.safetensors")
    return rows[:, 0].unflatten(0, (-1, GRID**2))


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
    parser.add_argument("--epochs", type=int, default=6)
    return parser


if __name__ == "__main__":
    main()
