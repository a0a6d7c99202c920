"""Pixels as the VQGAN wants them, its codes, and pixels again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from PIL import Image

from kinema.models.lwm.vqgan import VQGAN, VQGANConfig

MOST_AT_ONCE = 8
"""Frames of one batch; activations of a released-size frame take about 100 MB."""


def crop_square(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """``uint8[H, W, 3]`` scaled until the short side fits, then cut to the middle square.

    The resize is PIL's bicubic one, the long side is rounded down, and a middle that lies between
    two pixels is rounded to the even one, as the training data was made.
    """
    height, width = frame.shape[:2]
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


class FrameCoder:
    """Frames to codes and back, many at once, in float32 whatever the decoder computes in."""

    def __init__(self, config: VQGANConfig, params: Mapping[str, Any]) -> None:
        self.config = config
        self._params = {"params": params}

    def encode(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int32]]:
        """Each clip ``uint8[T, H, W, 3]`` to its codes ``int32[T, N]``; clips share batches."""
        squares = [crop_square(frame, self.config.resolution) for clip in frames for frame in clip]
        codes = self._in_batches(_encode, np.stack(squares))
        codes = codes.reshape(len(codes), -1)
        ends = np.cumsum([len(clip) for clip in frames])
        return np.split(codes, ends[:-1])

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.uint8]:
        """``int[T, N]`` codes to ``uint8[T, H, W, 3]``."""
        grid = self.config.grid
        return self._in_batches(_decode, codes.reshape(-1, grid, grid).astype(np.int32))

    def _in_batches(self, function: Any, values: NDArray[Any]) -> NDArray[Any]:
        done = []
        # float32 asked is float32 given: the default on a GPU moves codes by a bit or two.
        with jax.default_matmul_precision("highest"):
            for start in range(0, len(values), MOST_AT_ONCE):
                part = values[start : start + MOST_AT_ONCE]
                size = 1 << (len(part) - 1).bit_length()  # 1, 2, 4 or 8, so that few are compiled
                padded = np.resize(part, (size, *part.shape[1:]))
                result = function(self.config, self._params, padded)
                done.append(np.asarray(result)[: len(part)])
        return np.concatenate(done)


@partial(jax.jit, static_argnums=0)
def _encode(config: VQGANConfig, params: Any, pixels: Array) -> Array:
    model: Any = VQGAN(config)
    codes: Array = model.apply(params, pixels / 127.5 - 1.0, method="encode")
    return codes


@partial(jax.jit, static_argnums=0)
def _decode(config: VQGANConfig, params: Any, codes: Array) -> Array:
    model: Any = VQGAN(config)
    pixels: Array = model.apply(params, codes, method="decode")
    return ((pixels + 1.0) * 127.5).astype(jnp.uint8)
