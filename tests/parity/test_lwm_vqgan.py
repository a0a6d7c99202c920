"""The VQGAN against diffusers' VQModel, which has the same architecture, on shared weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from kinema.models.lwm.vqgan import (
    VQGAN,
    VQGANConfig,
    infer_vqgan_config,
    unflatten,
    vqgan_shapes,
)
from support.lwm_peers import as_torch, empty_vq_model, torch_name, vq_model, vqgan_leaves

TINY = VQGANConfig(resolution=64, channels=(32, 64, 64, 96), num_codes=512, z_channels=16)


@pytest.fixture(scope="module")
def pair():
    leaves = vqgan_leaves(TINY)
    theirs = vq_model(TINY, leaves)
    apply = jax.jit(VQGAN(TINY).apply, static_argnames="method")
    pixels = np.random.default_rng(1).uniform(-1, 1, (3, 64, 64, 3)).astype("f4")
    return partial(apply, {"params": unflatten(leaves)}), theirs, pixels


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
        theirs = empty_vq_model(VQGANConfig()).state_dict()
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
