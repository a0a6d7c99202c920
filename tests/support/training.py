"""What a small training run needs: a tower, a language model, features and chat data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kinema.models.importers.parts import without_bars
from kinema.models.videolm import VideoLMConfig
from kinema.models.videolm.features import FeaturesHeader, save_features
from kinema.tasks.train import train
from kinema.training.settings import from_flat
from support.videolm import TEXT, make_byte_tokenizer, make_clip_tower

QUESTIONS = ("What?", "What is taken out of the bowl?", "And then, after all of that is done?")
ANSWERS = ("tea", "a spoon of sugar", "stir it, then drink it slowly while it is still warm")


def make_language_model(folder: Path, **settings: Any) -> Path:
    """A LLaMA of random weights that reads bytes."""
    torch.manual_seed(0)
    with without_bars():
        LlamaForCausalLM(LlamaConfig(vocab_size=262, **TEXT | settings)).save_pretrained(folder)
    make_byte_tokenizer().save_pretrained(folder)
    return folder


def make_parts(folder: Path) -> dict[str, str]:
    """Settings of a new VideoLM: Video-ChatGPT's pooling over a tiny CLIP and a tiny LLaMA."""
    torch.manual_seed(0)
    return {
        "model_name_or_path": str(make_language_model(folder / "llama")),
        "vision_tower": str(make_clip_tower(folder / "clip")),
        "pooling": "cls",
        "select_feature": "cls",
        "projector": "linear",
    }


def write_data(path: Path, features: Sequence[Path], *, count: int = 12) -> Path:
    """Samples of different lengths, one medium each, every other one with two turns."""
    with path.open("w") as file:
        for i in range(count):
            medium = {"type": "features", "path": str(features[i % len(features)])}
            question, answer = QUESTIONS[i % 3], ANSWERS[(i * 5) % 3] * (1 + i % 4)
            messages = [
                {"role": "user", "content": [{"type": "text", "text": question}, medium]},
                {"role": "assistant", "content": answer},
            ]
            if i % 2:
                messages += [
                    {"role": "user", "content": "More?"},
                    {"role": "assistant", "content": f"No {i}."},
                ]
            file.write(json.dumps({"id": f"s{i}", "messages": messages}) + "\n")
    return path


def write_features(folder: Path, config: VideoLMConfig, *, count: int = 3) -> list[Path]:
    """Random features as this model makes them, of videos of different lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    paths = []
    for i in range(count):
        num_frames = 3 + 2 * i
        size = (
            config.layout.feature_tokens(num_frames),
            len(config.select_layers),
            config.vision_hidden_size,
        )
        header = FeaturesHeader.for_config(config, num_frames=num_frames)
        path = folder / f"clip{i}.safetensors"
        save_features(path, torch.randn(size, generator=generator), header)
        paths.append(path)
    return paths


def run_training(output: Path, **settings: Any) -> Any:
    """A run on the CPU without a checkpoint, unless the settings say otherwise."""
    given = {"use_cpu": True, "save_strategy": "no", "logging_steps": 1, "learning_rate": 1e-2}
    return train(from_flat(given | {"output_dir": output} | settings))


def losses(run: Path) -> list[float]:
    """The training losses in a run's log."""
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]
