"""The processor: prompts with placeholders and media to the model's inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from kinema.errors import UsageError
from kinema.models.videolm.config import VideoLMConfig
from kinema.models.videolm.features import load_features
from kinema.models.videolm.layout import TokenLayout, write_run


class VideoLMProcessor(ProcessorMixin):  # type: ignore[misc]
    """Puts runs of media tokens where ``<image>`` and ``<video>`` stand, and prepares pixels.

    Media are taken in the order of the placeholders, over all prompts of the batch.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (transformers passes all of it by name)
        self,
        video_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        layout: dict[str, Any] | None = None,
        media_token: str = "<vid_patch>",
        media_start_token: str = "<vid_start>",
        media_end_token: str = "<vid_end>",
        add_special_tokens: bool = True,
        exact_frames: int | None = None,
    ) -> None:
        # No argument is keyword-only: from_pretrained drops those.
        super().__init__(video_processor, tokenizer, chat_template=chat_template)
        self.layout = layout or asdict(VideoLMConfig().layout)
        self.media_token = media_token
        self.media_start_token = media_start_token
        self.media_end_token = media_end_token
        self.add_special_tokens = add_special_tokens
        self.exact_frames = exact_frames
        self.image_placeholder = "<image>"
        self.video_placeholder = "<video>"

    @classmethod
    def for_config(
        cls, config: VideoLMConfig, *, tokenizer: Any, video_processor: Any, **kwargs: Any
    ) -> VideoLMProcessor:
        """The processor whose token counts are those of a model's configuration."""
        ids = (config.media_token_id, config.media_start_token_id, config.media_end_token_id)
        names = ("media_token", "media_start_token", "media_end_token")
        tokens = {
            name: tokenizer.convert_ids_to_tokens(i)
            for name, i in zip(names, ids, strict=True)
            if i is not None
        }
        layout = asdict(config.layout)
        return cls(video_processor, tokenizer, layout=layout, **tokens, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        *,
        features: Sequence[Tensor | Path | str] | None = None,
        seconds: Sequence[Sequence[float]] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokens of the prompts and inputs of their media.

        Args:
            images: pictures, uint8[H, W, 3] or PIL.
            text: one prompt or several.
            videos: uint8[T, H, W, 3] each.
            features: instead of images and videos, float[N, L, D] each or features files.
            seconds: presentation times of each video's frames, for ``time=timestamps``;
                ``video_metadata`` (``frames_indices`` and ``fps``) says them too.
            kwargs: for the tokenizer (``padding``, ``return_tensors``, ...).

        Raises:
            UsageError: placeholders and media differ in number, or times are missing.
        """
        prompts = [text] if isinstance(text, str) else list(text or [])
        wanted = self._pattern.findall("\n".join(prompts))
        if features is not None:
            inputs = self._feature_inputs(features, wanted)
        else:
            inputs = self._pixel_inputs(_flat(images), _flat(videos), wanted)
        if not seconds and (metadata := kwargs.get("video_metadata")):
            seconds = [[index / m["fps"] for index in m["frames_indices"]] for m in metadata]
        expanded = self.expand(prompts, inputs.get("num_frames", ()), seconds)
        for name in ("do_sample_frames", "video_metadata", "input_data_format", "device"):
            kwargs.pop(name, None)
        kwargs.setdefault("add_special_tokens", self.add_special_tokens)
        return BatchFeature(data={**self.tokenizer(expanded, **kwargs), **inputs})

    def expand(
        self,
        prompts: Sequence[str],
        num_frames: Sequence[int] | Tensor,
        seconds: Sequence[Sequence[float]] | None = None,
    ) -> list[str]:
        """The prompts with each placeholder written out as the tokens of its medium.

        Args:
            prompts: with ``<image>`` and ``<video>`` in them.
            num_frames: frames of each medium, in the order of the placeholders.
            seconds: presentation times of each video's frames, for ``time=timestamps``.
        """
        wanted = self._pattern.findall("\n".join(prompts))
        times = iter(seconds or ())
        runs = []
        for placeholder, count in zip(wanted, num_frames, strict=True):
            timed = self.token_layout.timestamps and placeholder == self.video_placeholder
            runs.append(self._run(int(count), next(times, None) if timed else None, timed=timed))
        written = iter(runs)
        return [self._pattern.sub(lambda _: next(written), prompt) for prompt in prompts]

    @property
    def model_input_names(self) -> list[str]:
        """Names of what the model takes."""
        return [*self.tokenizer.model_input_names, "pixel_values", "features", "num_frames"]

    @property
    def token_layout(self) -> TokenLayout:
        """Token counts of media."""
        return TokenLayout(**self.layout | {"grid": tuple(self.layout["grid"])})

    def num_visual_tokens(self, num_frames: int) -> int:
        """Prompt tokens of one medium, start and end included, timestamps left out."""
        layout = self.token_layout
        runs = num_frames if layout.timestamps else 1
        wrap = 2 * runs if layout.wrap == "outside" else 0
        return layout.prompt_tokens(num_frames) + wrap

    @property
    def _pattern(self) -> re.Pattern[str]:
        either = f"{re.escape(self.image_placeholder)}|{re.escape(self.video_placeholder)}"
        return re.compile(either)

    def _pixel_inputs(
        self, images: list[Any], videos: list[Any], wanted: list[str]
    ) -> dict[str, Any]:
        for placeholder, media in (
            (self.image_placeholder, images),
            (self.video_placeholder, videos),
        ):
            if wanted.count(placeholder) != len(media):
                raise UsageError(
                    f"The prompts hold {wanted.count(placeholder)} {placeholder} and "
                    f"{len(media)} media of that kind were given.",
                    hint="Give one medium for each placeholder.",
                )
        if not wanted:
            return {}
        queues = {self.image_placeholder: iter(images), self.video_placeholder: iter(videos)}
        stacks = [_frames(next(queues[placeholder])) for placeholder in wanted]
        if self.exact_frames is not None:
            stacks = [s[stretch_positions(len(s), self.exact_frames)] for s in stacks]
        return dict(self.video_processor(stacks, input_data_format="channels_last"))

    def _feature_inputs(
        self, features: Sequence[Tensor | Path | str], wanted: list[str]
    ) -> dict[str, Any]:
        if len(features) != len(wanted):
            raise UsageError(
                f"The prompts hold {len(wanted)} placeholders and {len(features)} features "
                "were given.",
                hint="Give one medium for each placeholder.",
            )
        loaded = [load_features(f)[0] if isinstance(f, Path | str) else f for f in features]
        rows = [one if one.ndim == 3 else one.unsqueeze(1) for one in loaded]
        layout, counts = self.token_layout, []
        for one in rows:
            count = layout.num_frames_of(len(one))
            if layout.pooling == "spatio_temporal":
                # Absent frames are zero rows at the end of the temporal ones.
                count = int(one[:count].flatten(1).any(dim=1).sum())
            counts.append(count)
        return {"features": torch.cat(rows), "num_frames": torch.tensor(counts)}

    def _run(self, num_frames: int, seconds: Sequence[float] | None, *, timed: bool) -> str:
        layout = self.token_layout
        tokens = {
            "patch": self.media_token,
            "start": self.media_start_token,
            "end": self.media_end_token,
        }
        if not timed:
            return write_run(layout, layout.prompt_tokens(num_frames), **tokens)
        if seconds is None or len(seconds) != num_frames:
            raise UsageError(
                f"time=timestamps needs the times of {num_frames} frames.",
                hint="Give seconds=[[0.0, 0.5, ...]], one list a video.",
            )
        one = write_run(layout, layout.tokens_per_frame, **tokens)
        return "".join(f"{at:.1f}s: {one}\n" for at in seconds)


def stretch_positions(total: int, num_frames: int) -> np.ndarray[Any, Any]:
    """int64[num_frames]: which of ``total`` frames stand there, some of them repeatedly.

    The midpoints of rounded segment borders, as the Breakfast fork of Video-ChatGPT picks them.
    """
    borders = np.round(np.arange(num_frames + 1) * (total - 1) / num_frames)
    return ((borders[:-1] + borders[1:]) // 2).astype(np.int64)


def _flat(media: Any) -> list[Any]:
    if media is None:
        return []
    if not isinstance(media, list | tuple):
        return [media]
    return [one for item in media for one in (item if isinstance(item, list) else [item])]


def _frames(medium: Any) -> np.ndarray[Any, Any]:
    """uint8[T, H, W, 3] of a video, a picture or a PIL image."""
    array = np.asarray(medium.convert("RGB") if hasattr(medium, "convert") else medium)
    return array if array.ndim == 4 else array[None]
