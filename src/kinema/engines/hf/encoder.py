"""A vision tower by itself: frames in, rows of a features file out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinema.engines.device import pick_device
from kinema.engines.hf.errors import translated
from kinema.errors import OutOfMemory
from kinema.models.importers.parts import Tower
from kinema.models.videolm.config import VideoLMConfig
from kinema.models.videolm.pooling import pool
from kinema.models.videolm.processor import stretch_positions
from kinema.models.videolm.tower import build_tower, tower_states
from kinema.video.prefetch import prefetch

Transform = Callable[[Tensor], Tensor]
"""uint8[T, 3, H, W] to the same, of any height and width."""
Number = Literal["float32", "float16", "bfloat16"]

_PREFIX = "vision_tower."


class Encoder:
    """A tower on a device, with the settings that its features are made with.

    Args:
        tower: weights and pixels.
        config: selected layers and pooling.
        device: a torch device, or ``auto``.
        dtype: what is computed with; ``auto`` is float16 on a GPU and float32 elsewhere.
        exact_frames: repeat frames up to this count, as the Breakfast fork does.
        variants: changes of the pixels by name.
    """

    def __init__(
        self,
        tower: Tower,
        config: VideoLMConfig,
        *,
        device: str = "auto",
        dtype: Number | Literal["auto"] = "auto",
        exact_frames: int | None = None,
        variants: Mapping[str, Transform] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self._device = pick_device(device)
        if dtype == "auto":
            dtype = "float16" if self._device.type == "cuda" else "float32"
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._variants = variants
        self._exact_frames = exact_frames
        self._processor = tower.video_processor
        module = build_tower(config)
        module.load_state_dict({n.removeprefix(_PREFIX): w for n, w in tower.weights.items()})
        self._tower, self._running = _shortened(module, config)
        self._tower.to(self._device, self._dtype).eval()

    @torch.inference_mode()
    def encode(
        self, pixels: NDArray[np.uint8], variant: str = "", *, batch_size: int = 32
    ) -> Tensor:
        """Features of one video: uint8[T, H, W, 3] to float[N, L, D] on the CPU.

        Pixels of the next batch are prepared while the tower works on one.

        Args:
            pixels: the frames.
            variant: name of the change that is made to them first; "" for none.
            batch_size: frames that go through the tower together.

        Raises:
            OutOfMemory: the device is too small for a batch.
        """
        transform = self._variants[variant] if variant else None
        batches = (pixels[i : i + batch_size] for i in range(0, len(pixels), batch_size))
        try:
            with translated():
                prepared = prefetch(batches, lambda batch: self._prepare(batch, transform), depth=2)
                every = [tower_states(self._tower, batch, self._running) for batch in prepared]
                states = torch.cat(every)
                if self._exact_frames is not None:
                    states = states[stretch_positions(len(states), self._exact_frames)]
                return pool(states, self.config.layout).cpu()
        except OutOfMemory as problem:
            raise OutOfMemory(
                f"The device ran out of memory with {batch_size} frames at once.",
                hint="Lower --batch-size, or compute in --dtype float16.",
            ) from problem

    def release(self) -> None:
        """Empty the device's cache."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _prepare(self, pixels: NDArray[np.uint8], transform: Transform | None) -> Tensor:
        # A copy where needed: torch refuses arrays that cannot be written to.
        video = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).permute(0, 3, 1, 2)
        if transform is not None:
            video = transform(video)
        # Bytes travel to the device, a quarter of what floats would be, and are resized there.
        inputs = self._processor([video.to(self._device)], input_data_format="channels_first")
        values: Tensor = inputs["pixel_values"].to(self._dtype)
        return values


def _shortened(tower: Any, config: VideoLMConfig) -> tuple[Any, VideoLMConfig]:
    """The tower without the blocks behind the last selected layer; nobody reads what they make."""
    blocks = getattr(getattr(tower, "encoder", None), "layers", None)
    if blocks is None:
        return tower, config
    total = len(blocks) + 1
    wanted = [layer % total for layer in config.select_layers]
    tower.encoder.layers = blocks[: max(1, *wanted)]
    running = deepcopy(config)
    running.select_layer = wanted
    return tower, running
