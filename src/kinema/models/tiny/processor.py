"""Prompt and frames to tensors: the placeholder of a clip becomes one place per visual token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchFeature, ProcessorMixin

from kinema.errors import UsageError
from kinema.models.tiny.memory import FrameMemory
from kinema.models.tiny.vision import to_views

IMAGE, VIDEO = "<image>", "<video>"
UNKNOWN_TIME = -1
_REMEMBERED_FRAMES = 64
"""What the model sees of them; 1.2 megabytes each."""


class TinyProcessor(ProcessorMixin):  # type: ignore[misc]
    """Text with ``<video>`` and ``<image>``, and their frames, ready for the model.

    Args:
        tokenizer: the language model's, holding both placeholders as tokens.
        chat_template: Jinja.
        tokens_per_frame: places that one frame takes in the prompt.
    """

    def __init__(
        self, tokenizer: Any = None, chat_template: str | None = None, tokens_per_frame: int = 4
    ) -> None:
        self.tokens_per_frame = tokens_per_frame
        self._memory = FrameMemory(_REMEMBERED_FRAMES)
        super().__init__(tokenizer, chat_template=chat_template)

    @property
    def model_input_names(self) -> list[str]:
        """The tensors of :meth:`__call__`."""
        return ["input_ids", "attention_mask", "pixel_values", "frame_counts", "frame_milliseconds"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] = "",
        videos: Any = None,
        *,
        video_metadata: Any = None,
        **options: Any,
    ) -> BatchFeature:
        """Expand placeholders and look at the frames.

        Args:
            images: uint8[H, W, 3] pictures, one list per text or one flat list, in prompt order.
            text: rendered prompts.
            videos: uint8[T, H, W, 3] clips, nested like ``images``.
            video_metadata: one mapping a clip with ``fps`` and ``frames_indices``, the clock.
            options: for the tokenizer (``padding``, ``return_tensors``, ...).

        Returns:
            ``input_ids`` and ``attention_mask`` int64[B, L], left padded. With media also
            ``pixel_values`` float32[sum T, 2, 3, 224, 224], ``frame_counts`` int64[clips] and
            ``frame_milliseconds`` int64[sum T] (-1 where unknown), clips in prompt order.

        Raises:
            UsageError: placeholders and media do not match, or a clip is no uint8[T, H, W, 3].
        """
        texts = [text] if isinstance(text, str) else list(text)
        films, clocks = _flat(videos, rank=4), _flat(video_metadata, rank=-1)
        if clocks and len(clocks) != len(films):
            raise UsageError(
                f"{len(films)} videos came with {len(clocks)} video_metadata.",
                hint="Give one each.",
            )
        queues = {
            IMAGE: iter([(_pixels(i)[-1:], None) for i in _flat(images, rank=3)]),
            VIDEO: iter(zip(map(_pixels, films), clocks or [None] * len(films), strict=True)),
        }
        clips: list[tuple[NDArray[np.uint8], Any]] = []
        expanded = [self._expand(one, queues, clips) for one in texts]
        if any(next(queue, None) is not None for queue in queues.values()):
            raise UsageError(
                "There are more media than placeholders in the prompt.",
                hint=f"Write {VIDEO} or {IMAGE} once for each.",
            )
        options.pop("do_sample_frames", None)
        options = {"padding": True, "padding_side": "left", "return_tensors": "pt"} | options
        tokens = self.tokenizer(expanded, add_special_tokens=False, **options)
        return BatchFeature(dict(tokens) | self._clip_tensors(clips))

    def _expand(self, text: str, queues: Mapping[str, Iterator[Any]], clips: list[Any]) -> str:
        def places(match: re.Match[str]) -> str:
            clip = next(queues[match[0]], None)
            if clip is None:
                raise UsageError(
                    f"The prompt holds more {match[0]} than were given.",
                    hint="Give one medium for each placeholder.",
                )
            clips.append(clip)
            return match[0] * len(clip[0]) * self.tokens_per_frame

        return re.sub(f"{IMAGE}|{VIDEO}", places, text)

    def _clip_tensors(self, clips: list[tuple[NDArray[np.uint8], Any]]) -> dict[str, torch.Tensor]:
        if not clips:
            return {}
        times = [t for pixels, metadata in clips for t in _milliseconds(len(pixels), metadata)]
        views = [self._memory.recall(pixels, to_views) for pixels, _ in clips]
        return {
            "pixel_values": views[0] if len(views) == 1 else torch.cat(views),
            "frame_counts": torch.tensor([len(pixels) for pixels, _ in clips]),
            "frame_milliseconds": torch.tensor(times),
        }


def _flat(media: Any, *, rank: int) -> list[Any]:
    """The items of a medium, a list of them, or lists in a list."""
    if media is None:
        return []
    if isinstance(media, Mapping) or getattr(media, "ndim", None) == rank:
        return [media]
    if rank == 3 and hasattr(media, "convert"):
        return [media]
    if rank == 4 and len(media) and getattr(media[0], "ndim", None) == 3:
        return [np.stack([np.asarray(frame) for frame in media])]
    return [item for one in media for item in _flat(one, rank=rank)]


def _pixels(medium: Any) -> NDArray[np.uint8]:
    """uint8[T, H, W, 3] of an array, tensor or picture."""
    medium = medium.convert("RGB") if hasattr(medium, "convert") else medium
    pixels = np.asarray(medium)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(
            f"A clip is {pixels.dtype}{list(pixels.shape)}.",
            hint="It must be uint8[T, H, W, 3] with at least one frame.",
        )
    return pixels


def _milliseconds(num_frames: int, metadata: Any) -> list[int]:
    """When each frame is shown, from its index and the clip's rate."""
    if metadata is None or not metadata["fps"] or metadata["frames_indices"] is None:
        return [UNKNOWN_TIME] * num_frames
    milliseconds = [round(1000 * i / metadata["fps"]) for i in metadata["frames_indices"]]
    if len(milliseconds) != num_frames:
        raise UsageError(
            f"video_metadata holds {len(milliseconds)} frames_indices for {num_frames} frames.",
            hint="Give the index of each frame.",
        )
    return milliseconds
