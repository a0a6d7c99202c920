"""Visual tokens of a clip, from the sizes in a checkpoint's files alone.

Each function takes (checkpoint, frames, height, width) and returns what the family's processor
in transformers 5 puts into the prompt; tests hold the two against each other.
"""

from __future__ import annotations

import math
from typing import Any

from kinema.families.checkpoint import Checkpoint

Size = tuple[int, int]


def clip_with_class(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """Every patch of the cropped frame and the class token: 257 at 224 px."""
    return frames * (_patches(checkpoint) + 1)


def pooled_by_two(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """A quarter of the patches of each frame: 144 at 336 px."""
    return frames * (_patches(checkpoint) // 4)


def pooled_and_newline(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """Patches pooled two by two, rounded up, and one newline a clip: 196 a frame at 384 px."""
    side = math.isqrt(checkpoint.processor["num_image_tokens"])
    return frames * math.ceil(side / 2) ** 2 + 1


def fixed_per_frame(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """The number that the processor holds, for every frame."""
    names = ("image_seq_len", "image_seq_length", "num_image_tokens")
    settings = checkpoint.processor
    return frames * next(int(settings[name]) for name in names if name in settings)


def patches_per_image(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """Every patch of each frame: 576 at 336 px."""
    return frames * _patches(checkpoint)


def frame_pairs(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """Qwen2-VL and 2.5: frames in pairs, each frame resized within its own pixel budget."""
    settings = _Grid(checkpoint)
    size = settings.resized(height, width, settings.least, settings.most(frames))
    return math.ceil(frames / settings.frames_per_step) * settings.cells(size)


def frame_pairs_of_clip(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """Qwen3-VL: frames in pairs, the pixel budget is that of the whole clip."""
    settings = _Grid(checkpoint)
    step = settings.frames_per_step
    even = round(frames / step) * step
    small = max(settings.factor / height, settings.factor / width, 1.0)
    height, width = int(height * small), int(width * small)
    size = settings.rounded(height, width)
    if even * size[0] * size[1] > settings.largest:
        size = settings.shrunk(height, width, settings.largest / frames)
    elif even * size[0] * size[1] < settings.least:
        size = settings.grown(height, width, settings.least / frames)
    return math.ceil(frames / step) * settings.cells(size)


def frames_share_budget(checkpoint: Checkpoint, frames: int, height: int, width: int) -> int:
    """VideoLLaMA3: every frame, an equal share of the clip's budget; compression lowers it."""
    settings = _Grid(checkpoint)
    size = settings.resized(height, width, settings.least, settings.largest // frames)
    return frames * settings.cells(size)


def _patches(checkpoint: Checkpoint) -> int:
    vision, crop = checkpoint.config["vision_config"], checkpoint.processor["video_processor"]
    crop = crop.get("crop_size") or {"height": vision["image_size"]}
    return (int(crop["height"]) // int(vision["patch_size"])) ** 2


class _Grid:
    """The resizing rules of the Qwen line: sides are multiples of ``factor``, area is bounded."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        settings = checkpoint.processor["video_processor"]
        size = settings.get("size", {})
        self.patch = int(settings.get("patch_size", 14))
        self.merge = int(settings.get("merge_size", 2))
        self.factor = self.patch * self.merge
        self.frames_per_step = int(settings.get("temporal_patch_size", 2))
        self.least = int(settings.get("min_pixels") or size["shortest_edge"])
        self.largest = int(settings.get("max_pixels") or size["longest_edge"])
        self._capped = bool(settings.get("cap_pixels_per_frame"))
        self._token_budget = int(settings.get("max_video_tokens", 128_000))

    def most(self, frames: int) -> int:
        """Pixels of one frame at most."""
        if not self._capped:
            return self.largest
        share = int(self._token_budget * self.factor**2 * 0.9) * self.frames_per_step // frames
        return max(min(self.largest, share), int(self.least * 1.05))

    def resized(self, height: int, width: int, least: int, most: int) -> Size:
        size = self.rounded(height, width)
        if size[0] * size[1] > most:
            return self.shrunk(height, width, most)
        if size[0] * size[1] < least:
            return self.grown(height, width, least)
        return size

    def rounded(self, height: int, width: int) -> Size:
        return self._sides(height, width, round)

    def shrunk(self, height: int, width: int, area: float) -> Size:
        scale = math.sqrt(height * width / area)
        tall, wide = self._sides(height / scale, width / scale, math.floor)
        return max(self.factor, tall), max(self.factor, wide)

    def grown(self, height: int, width: int, area: float) -> Size:
        scale = math.sqrt(area / (height * width))
        return self._sides(height * scale, width * scale, math.ceil)

    def _sides(self, height: float, width: float, to_int: Any) -> Size:
        return to_int(height / self.factor) * self.factor, to_int(width / self.factor) * self.factor

    def cells(self, size: Size) -> int:
        """Tokens of one resized frame."""
        return (size[0] // self.factor) * (size[1] // self.factor)
