"""The VQGAN against diffusers' VQModel, which has the same architecture, on shared weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import VQModel

from kinema.models.lwm.vqgan import (
    VQGAN,
    VQGANConfig,
    infer_vqgan_config,
    unflatten,
    vqgan_shapes,
)

TINY = VQGANConfig(resolution=64, channels=(32, 64, 64, 96), num_codes=512, z_channels=16)

RENAMED = {
    "DownsamplingBlock_": "down_blocks.",
    "UpsamplingBlock_": "up_blocks.",
    "MidBlock_0": "mid_block",
    "ResnetBlock_": "resnets.",
    "Downsample_0/Conv_0": "downsamplers.0.conv",
    "Upsample_0/Conv_0": "upsamplers.0.conv",
    "quantize/embeddings": "quantize.embedding.weight",
}
IN_BLOCK = {
    "GroupNorm_0": "norm1",
    "GroupNorm_1": "norm2",
    "Conv_0": "conv1",
    "Conv_1": "conv2",
    "Conv_2": "conv_shortcut",
}
AT_TOP = {"Conv_0": "conv_in", "Conv_1": "conv_out", "GroupNorm_0": "conv_norm_out"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def torch_name(name: str) -> str:
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    if name.endswith(".weight"):
        return name
    *folders, leaf = name.split("/")
    table = IN_BLOCK if any(f.startswith("resnets") for f in folders) else AT_TOP
    return ".".join([*(table.get(f, f) for f in folders), LEAVES[leaf]])


def torch_tensor(value: np.ndarray) -> torch.Tensor:
    value = np.asarray(value)
    return torch.from_numpy(
        np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value.copy()
    )


def reference(config: VQGANConfig) -> VQModel:
    levels = len(config.channels)
    return VQModel(
        block_out_channels=list(config.channels),
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=config.num_res_blocks,
        latent_channels=config.z_channels,
        num_vq_embeddings=config.num_codes,
        norm_num_groups=32,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    ).eval()


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    leaves = {n: rng.normal(0, 0.07, s).astype("f4") for n, s in vqgan_shapes(TINY).items()}
    leaves |= {n: 1 + v for n, v in leaves.items() if n.endswith("scale")}
    # A trained codebook is spread as the latents are; the initial one would be all ties.
    leaves["quantize/embeddings"] = rng.normal(0, 0.3, (512, 16)).astype("f4")
    theirs = reference(TINY)
    state = {torch_name(n): torch_tensor(v) for n, v in leaves.items()}
    theirs.load_state_dict(state, strict=True)
    apply = jax.jit(VQGAN(TINY).apply, static_argnames="method")
    pixels = rng.uniform(-1, 1, (3, 64, 64, 3)).astype("f4")
    return partial(apply, {"params": unflatten(leaves)}), theirs, pixels


def as_torch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def test_latents_and_ids_equal_those_of_diffusers(pair):
    ours, theirs, pixels = pair
    latents = ours(pixels, method="latents")
    ids = ours(pixels, method="encode")
    with torch.no_grad():
        wanted = theirs.encode(as_torch(pixels)).latents
        _, _, (_, _, wanted_ids) = theirs.quantize(wanted)
    np.testing.assert_allclose(latents, wanted.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    assert np.asarray(ids).ravel().tolist() == wanted_ids.tolist()
    assert len(set(wanted_ids.tolist())) > 20


def test_decoded_pixels_equal_those_of_diffusers(pair):
    ours, theirs, _ = pair
    ids = np.random.default_rng(2).integers(0, 512, (2, 8, 8))
    pixels = ours(ids, method="decode")
    with torch.no_grad():
        shape = (2, 8, 8, TINY.z_channels)
        wanted = theirs.decode(torch.from_numpy(ids), force_not_quantize=True, shape=shape)
    wanted = wanted.sample.clamp(-1, 1)
    np.testing.assert_allclose(pixels, wanted.numpy().transpose(0, 2, 3, 1), atol=1e-4)


def test_released_size_has_the_released_tensors():
    shapes = vqgan_shapes(VQGANConfig())
    assert len(shapes) == 277
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 146_244_675
    with torch.device("meta"):
        theirs = reference(VQGANConfig()).state_dict()
    assert {torch_name(name) for name in shapes} == set(theirs)


@pytest.mark.parametrize("config", [VQGANConfig(), TINY])
def test_sizes_can_be_read_off_the_shapes(config):
    found = infer_vqgan_config(vqgan_shapes(config))
    assert (found.channels, found.num_codes, found.z_channels, found.num_res_blocks) == (
        config.channels, config.num_codes, config.z_channels, config.num_res_blocks
    )  # fmt: skip


def test_frames_in_one_batch_give_the_ids_of_frames_one_by_one(pair):
    ours, _, pixels = pair
    together = ours(pixels, method="encode")
    alone = jnp.concatenate([ours(pixels[i : i + 1], method="encode") for i in range(3)])
    assert together.tolist() == alone.tolist()
