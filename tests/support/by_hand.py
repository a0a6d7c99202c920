"""What a user of transformers writes: apply_chat_template, processor, generate."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from kinema.engines.hf.mrope import follow_training_positions
from kinema.types import Frames

NEW_TOKENS = 8


def clip(seed: int, num_frames: int = 8, fps: float = 10.0) -> Frames:
    """Noisy frames, every fifth of a source at a constant rate."""
    noise = np.random.default_rng(seed)
    indices = np.arange(num_frames, dtype=np.int64) * 5
    return Frames(
        pixels=noise.integers(0, 256, (num_frames, 48, 64, 3), dtype=np.uint8),
        seconds=indices / fps,
        indices=indices,
        source=f"noise {seed}",
        total_frames=5 * num_frames,
        duration_seconds=5 * num_frames / fps,
        source_fps=fps,
    )


def through_jpeg(frames: Frames) -> Frames:
    """The frames as a server gets them from the engine openai."""
    return replace(frames, pixels=np.stack([_through_jpeg(one) for one in frames.pixels]))


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer))


def metadata(frames: Frames) -> dict[str, Any]:
    return {
        "total_num_frames": frames.total_frames,
        "fps": frames.source_fps,
        "duration": frames.duration_seconds,
        "frames_indices": frames.indices.tolist(),
    }


class ByHand:
    """One checkpoint, loaded and called as its page on the hub shows."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        follow_training_positions(self.model)

    def generate(
        self, messages: list[dict[str, Any]], *, images: Any = (), videos: Any = ()
    ) -> list[int]:
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        return self.complete(text, images=images, videos=videos)

    def complete(self, text: str, *, images: Any = (), videos: Any = ()) -> list[int]:
        inputs = self.inputs(text, images=images, videos=videos)
        output = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS
        )
        return output[0, inputs["input_ids"].shape[1] :].tolist()

    def inputs(self, text: str, *, images: Any = (), videos: Any = ()) -> Any:
        media: dict[str, Any] = {}
        if images:
            media["images"] = [[frames.pixels[0] for frames in images]]
        if videos:
            media["videos"] = [frames.pixels for frames in videos]
            media["video_metadata"] = [metadata(frames) for frames in videos]
        return self.processor(text=[text], return_tensors="pt", **media)


def positions_of(model: Any, run: Callable[[], object]) -> torch.Tensor:
    """``int64[..., B, L]``: what the language model's rotary embedding is first asked for."""
    asked: list[torch.Tensor] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        tensors = (value for value in (*args, *kwargs.values()) if torch.is_tensor(value))
        asked.append(next(value for value in tensors if not value.is_floating_point()))

    modules = model.get_decoder().named_modules()
    rotary = next(module for name, module in modules if name.endswith("rotary_emb"))
    handle = rotary.register_forward_pre_hook(note, with_kwargs=True)
    run()
    handle.remove()
    return asked[0]


def long_clip(seconds: int, *, num_frames: int = 48) -> Frames:
    """Small noisy frames spread over a video of 48 frames a second."""
    rate = 48
    indices = np.arange(num_frames, dtype=np.int64) * (seconds * rate // num_frames)
    noise = np.random.default_rng(seconds)
    return Frames(
        pixels=noise.integers(0, 256, (num_frames, 32, 48, 3), dtype=np.uint8),
        seconds=indices / rate,
        indices=indices,
        source="noise",
        total_frames=seconds * rate,
        duration_seconds=float(seconds),
        source_fps=float(rate),
    )
