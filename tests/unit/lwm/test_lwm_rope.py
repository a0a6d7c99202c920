"""Rotary angles stay exact where float32 and bfloat16 lose them."""

import jax.numpy as jnp
import numpy as np
import pytest

from kinema.models.lwm.config import LONGEST
from kinema.models.lwm.rope import angles, rotate


@pytest.mark.parametrize("theta", [1e4, 5e7])
def test_angles_equal_float64_at_every_length(theta):
    positions = np.array([0, 1, 100, 257, 2432, 131071, LONGEST - 1])
    exact = positions[:, None] * theta ** -(np.arange(0, 128, 2) / 128)
    ours = np.asarray(angles(jnp.asarray(positions), 128, theta), np.float64)
    difference = np.abs(np.exp(1j * ours) - np.exp(1j * exact))
    assert difference.max() < 1e-6


def test_rotation_in_bfloat16_keeps_positions():
    # An angle table in bfloat16 is off by 2 here, which is the opposite direction.
    x = jnp.ones((1, 1, 128), jnp.bfloat16)
    turn = angles(jnp.array([2432]), 128, 5e7)
    low, full = rotate(x, turn), rotate(x.astype(jnp.float32), turn)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), full, atol=0.01)


def test_neighbouring_channels_turn_as_complex_numbers():
    x = np.random.default_rng(0).normal(size=(5, 8)).astype("f4")
    turn = np.random.default_rng(1).normal(size=(5, 4)).astype("f4")
    turned = np.asarray(rotate(jnp.asarray(x), jnp.asarray(turn)))
    wanted = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * turn)
    np.testing.assert_allclose(turned[:, ::2] + 1j * turned[:, 1::2], wanted, atol=1e-5)
