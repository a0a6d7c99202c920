"""Rotary positions over interleaved channel pairs, exact at any length.

A float32 angle loses its fraction as it grows (0.004 rad at position 131072, and bfloat16 loses it
after a hundred tokens). A rotation only needs the fraction of a turn, so we count turns in fixed
point: 44 bits of fraction, in two words because a device has 32-bit integers. Unsigned
multiplication drops whole turns by itself. The low word's product would wrap beyond position
:data:`kinema.models.lwm.config.LONGEST`, which no configuration may exceed.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray


def turns_per_position(
    head_dim: int, theta: float
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """High and low word, uint32[D/2] each, of ``theta^(-2i/D) / 2π`` in units of 2^-44 turn."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    words = np.rint(theta**-exponents / (2 * math.pi) * 2.0**44).astype(np.uint64)
    return (words >> 12).astype(np.uint32), (words & 0xFFF).astype(np.uint32)


def angles(positions: Array, head_dim: int, theta: float) -> Array:
    """int32[..., L] positions to float32[..., L, D/2] angles in (-π, π]."""
    high, low = turns_per_position(head_dim, theta)
    at = positions.astype(jnp.uint32)[..., None]
    turns = at * high + ((at * low) >> 12)
    return turns.astype(jnp.int32).astype(jnp.float32) * (math.pi / 2**31)


def rotate(x: Array, angle: Array) -> Array:
    """Rotate channel pairs (2i, 2i+1) of ``x[..., L, D]`` by ``float32[..., L, D/2]``."""
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
