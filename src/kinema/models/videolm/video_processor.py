"""Pixels of videos and images as the tower wants them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor


class FitKwargs(VideosKwargs, total=False):  # type: ignore[misc, call-arg]
    """Keyword arguments of the video processor."""

    fit: Literal["crop", "pad", "stretch"]


class VideoLMVideoProcessor(BaseVideoProcessor):  # type: ignore[misc]
    """Frames of all media, one after another, normalised; an image is a video of one frame.

    ``fit`` says what happens to a frame that is not square: ``crop`` resizes the short side and
    cuts the middle out, ``pad`` first puts it on a square of the mean colour (NeVA), ``stretch``
    first resizes it to the crop size with nearest neighbours (Video-ChatGPT).
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 224}  # noqa: RUF012 (transformers wants plain dicts)
    crop_size = {"height": 224, "width": 224}  # noqa: RUF012
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = False
    fit = "crop"
    valid_kwargs = FitKwargs
    model_input_names = ["pixel_values", "num_frames"]  # noqa: RUF012

    def _preprocess(
        self, videos: list[Tensor], *, fit: str = "crop", return_tensors: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """uint8[T, 3, H, W] each to ``pixel_values`` float[sum(T), 3, H', W'], ``num_frames``."""
        fitted = [self._fit(video, fit, kwargs["crop_size"]) for video in videos]
        done = super()._preprocess(fitted, return_tensors=None, **kwargs)["pixel_values_videos"]
        counts = torch.tensor([len(video) for video in done])
        pixels = torch.cat(list(done)) if len(done) > 1 else done[0]
        return BatchFeature(data={"pixel_values": pixels, "num_frames": counts})

    def _fit(self, video: Tensor, fit: str, crop: Any) -> Tensor:
        """Frames as they are, stretched to uint8[T, 3, H', W'], or centred on a square."""
        if fit == "stretch":
            return functional.interpolate(video, (crop.height, crop.width), mode="nearest")
        if fit != "pad":
            return video
        frames, _, height, width = video.shape
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        colour = torch.tensor([int(255 * mean) for mean in self.image_mean]).to(video)
        canvas = colour[:, None, None].repeat(frames, 1, side, side)
        canvas[:, :, top : top + height, left : left + width] = video
        return canvas
