"""Picking tokens: greedy, top-k, top-p, and rows that do not disturb each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from kinema.models.lwm.sampling import Choice, keep_likeliest, pick

LOGITS = np.random.default_rng(0).normal(0, 2, (3, 40)).astype("f4")
PICK = jax.jit(pick)


def choice(temperature, top_k=0, top_p=1.0, seeds=(0, 1, 2)):
    rows = len(seeds)
    full = lambda value, dtype: jnp.broadcast_to(jnp.asarray(value, dtype), (rows,))  # noqa: E731
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    return Choice(
        full(temperature, jnp.float32), full(top_k, jnp.int32), full(top_p, jnp.float32), keys
    )


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.7), (10, 0.5), (0, 1.0), (1, 0.01)])
def test_kept_tokens_are_those_of_transformers(top_k, top_p):
    kept = keep_likeliest(jnp.asarray(LOGITS), jnp.full(3, top_k), jnp.full(3, top_p))
    wanted = torch.from_numpy(LOGITS.copy())
    if top_k:
        wanted = TopKLogitsWarper(top_k)(None, wanted)
    if top_p < 1:
        wanted = TopPLogitsWarper(top_p)(None, wanted)
    assert np.asarray(kept).tolist() == wanted.numpy().tolist()


def test_temperature_zero_takes_the_likeliest():
    tokens = PICK(jnp.asarray(LOGITS), choice(0.0), jnp.int32(0))
    assert tokens.tolist() == LOGITS.argmax(axis=1).tolist()


def test_rows_follow_their_own_settings():
    mixed = choice([0.0, 5.0, 5.0], top_k=[0, 1, 0])
    tokens = np.stack([PICK(jnp.asarray(LOGITS), mixed, jnp.int32(i)) for i in range(20)])
    best = LOGITS.argmax(axis=1)
    assert set(tokens[:, 0].tolist()) == {best[0]}
    assert set(tokens[:, 1].tolist()) == {best[1]}
    assert len(set(tokens[:, 2].tolist())) > 5


def test_seed_repeats_and_neighbours_do_not_matter():
    row = jnp.asarray(LOGITS[:1])
    alone = [PICK(row, choice(1.0, seeds=(7,)), jnp.int32(i)).tolist() for i in range(8)]
    again = [PICK(row, choice(1.0, seeds=(7,)), jnp.int32(i)).tolist() for i in range(8)]
    rows = jnp.asarray(LOGITS[[1, 0, 2]])
    crowd = [[PICK(rows, choice(1.0, seeds=(3, 7, 9)), jnp.int32(i)).tolist()[1]] for i in range(8)]
    assert alone == again == crowd


def test_draws_follow_the_distribution():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    many = jnp.tile(logits, (4000, 1))
    tokens = np.asarray(PICK(many, choice(1.0, seeds=tuple(range(4000))), jnp.int32(3)))
    shares = np.bincount(tokens, minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.04)
