"""VQGAN: 256x256 frames to 16x16 codes of 8192, and back.

Submodules are named by order of use (``ResnetBlock_0``, ``Conv_1``), which gives the parameter
tree of the released file without a map. Arrays are NHWC, pixels lie in [-1, 1], all in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from kinema.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """The released sizes; smaller ones serve tests."""

    resolution: int = 256
    """Height and width of a frame in pixels."""
    channels: tuple[int, ...] = (128, 256, 256, 512, 768)
    """Width of each level; every level but the last halves height and width."""
    num_res_blocks: int = 2
    z_channels: int = 64
    num_codes: int = 8192

    @property
    def grid(self) -> int:
        """Height and width of a frame in codes."""
        return self.resolution >> (len(self.channels) - 1)

    @property
    def tokens_per_frame(self) -> int:
        """Codes of one frame."""
        return self.grid**2


def infer_vqgan_config(shapes: Mapping[str, tuple[int, ...]]) -> VQGANConfig:
    """Read the sizes off a checkpoint's tensor shapes; the resolution leaves no trace there.

    Raises:
        ModelError: the tensors are not those of the VQGAN.
    """
    block = "encoder/DownsamplingBlock_{}/ResnetBlock_{}/Conv_0/kernel"
    levels = [i for i in range(len(shapes)) if block.format(i, 0) in shapes]
    if not levels or "quantize/embeddings" not in shapes:
        raise ModelError(
            "The checkpoint holds no encoder/DownsamplingBlock_0 and quantize/embeddings.",
            hint="Give the file called vqgan of an LWM checkpoint.",
        )
    num_codes, z_channels = shapes["quantize/embeddings"]
    return VQGANConfig(
        channels=tuple(shapes[block.format(i, 0)][-1] for i in levels),
        num_res_blocks=sum(block.format(0, j) in shapes for j in range(len(shapes))),
        z_channels=z_channels,
        num_codes=num_codes,
    )


class ResnetBlock(nn.Module):
    """Two normed convolutions and a skip, 1x1 where the width changes."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to float32[B, H, W, width]."""
        skip = x
        x = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm(num_groups=32, epsilon=1e-6)(x)))
        x = nn.Conv(self.width, (3, 3))(nn.silu(nn.GroupNorm(num_groups=32, epsilon=1e-6)(x)))
        if skip.shape[-1] != self.width:
            skip = nn.Conv(self.width, (1, 1))(skip)
        return x + skip


class MidBlock(nn.Module):
    """Two blocks at the bottom; the released model has no attention there."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to the same shape."""
        # One statement a block: names count constructions, and a nested call makes the outer first.
        x = ResnetBlock(x.shape[-1])(x)
        return ResnetBlock(x.shape[-1])(x)


class Downsample(nn.Module):
    """Halve height and width; the padding is on the bottom and right only."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to float32[B, H/2, W/2, C]."""
        return nn.Conv(x.shape[-1], (3, 3), strides=2, padding=((0, 1), (0, 1)))(x)


class Upsample(nn.Module):
    """Double height and width by nearest neighbour, then smooth."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to float32[B, 2H, 2W, C]."""
        return nn.Conv(x.shape[-1], (3, 3))(x.repeat(2, axis=1).repeat(2, axis=2))


class DownsamplingBlock(nn.Module):
    """One level of the encoder."""

    width: int
    num_res_blocks: int
    last: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to float32[B, H/2, W/2, width], or H, W at the last level."""
        for _ in range(self.num_res_blocks):
            x = ResnetBlock(self.width)(x)
        return x if self.last else Downsample()(x)


class UpsamplingBlock(nn.Module):
    """One level of the decoder; it has one block more than the encoder's."""

    width: int
    num_res_blocks: int
    last: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """float32[B, H, W, C] to float32[B, 2H, 2W, width], or H, W at the last level."""
        for _ in range(self.num_res_blocks + 1):
            x = ResnetBlock(self.width)(x)
        return x if self.last else Upsample()(x)


class Encoder(nn.Module):
    """Pixels to latents."""

    config: VQGANConfig

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """float32[B, H, W, 3] to float32[B, H/16, W/16, Z]."""
        widths = self.config.channels
        x = nn.Conv(widths[0], (3, 3))(pixels)
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            x = DownsamplingBlock(width, self.config.num_res_blocks, last)(x)
        x = nn.silu(nn.GroupNorm(num_groups=32, epsilon=1e-6)(MidBlock()(x)))
        return nn.Conv(self.config.z_channels, (3, 3))(x)


class Decoder(nn.Module):
    """Latents to pixels."""

    config: VQGANConfig

    @nn.compact
    def __call__(self, latents: Array) -> Array:
        """float32[B, H/16, W/16, Z] to float32[B, H, W, 3] in [-1, 1]."""
        widths = self.config.channels[::-1]
        x = MidBlock()(nn.Conv(widths[0], (3, 3))(latents))
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            x = UpsamplingBlock(width, self.config.num_res_blocks, last)(x)
        x = nn.silu(nn.GroupNorm(num_groups=32, epsilon=1e-6)(x))
        return jnp.clip(nn.Conv(3, (3, 3))(x), -1.0, 1.0)


class Quantizer(nn.Module):
    """The codebook."""

    num_codes: int
    width: int

    def setup(self) -> None:
        """One table of codes."""
        spread = 1.0 / self.num_codes
        self.embeddings = self.param(
            "embeddings",
            lambda key, shape: jax.random.uniform(key, shape, minval=-spread, maxval=spread),
            (self.num_codes, self.width),
        )

    def nearest(self, latents: Array) -> Array:
        """float32[..., Z] to int32[...]: the closest code, the first one on a tie."""
        codes = self.embeddings
        distance = jnp.sum(codes**2, axis=1) - 2.0 * latents @ codes.T
        return jnp.argmin(distance, axis=-1).astype(jnp.int32)

    def lookup(self, ids: Array) -> Array:
        """int32[...] to float32[..., Z]."""
        return self.embeddings[ids]


class VQGAN(nn.Module):
    """Encoder, quantizer and decoder."""

    config: VQGANConfig = VQGANConfig()

    def setup(self) -> None:
        """Names are those of the released file."""
        z = self.config.z_channels
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.quantize = Quantizer(self.config.num_codes, z)
        self.quant_conv = nn.Conv(z, (1, 1))
        self.post_quant_conv = nn.Conv(z, (1, 1))

    def latents(self, pixels: Array) -> Array:
        """float32[B, H, W, 3] in [-1, 1] to float32[B, H/16, W/16, Z], not quantized."""
        return self.quant_conv(self.encoder(pixels))

    def encode(self, pixels: Array) -> Array:
        """float32[B, H, W, 3] in [-1, 1] to int32[B, H/16, W/16]."""
        return self.quantize.nearest(self.latents(pixels))

    def decode(self, ids: Array) -> Array:
        """int32[B, H/16, W/16] to float32[B, H, W, 3] in [-1, 1]."""
        return self.decoder(self.post_quant_conv(self.quantize.lookup(ids)))

    def __call__(self, pixels: Array) -> Array:
        """There and back; this is what makes all parameters."""
        return self.decode(self.encode(pixels))


def vqgan_shapes(config: VQGANConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, without making one."""
    pixels = jnp.zeros((1, config.resolution, config.resolution, 3))
    tree = jax.eval_shape(VQGAN(config).init, jax.random.key(0), pixels)["params"]
    return {name: leaf.shape for name, leaf in flatten(tree).items()}


flatten = partial(flatten_dict, sep="/")
"""A nested dict as one dict of ``a/b/c`` names."""
unflatten = partial(unflatten_dict, sep="/")
"""The inverse of :func:`flatten`."""
