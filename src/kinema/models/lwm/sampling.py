"""How the next token is picked: temperature, top-k, top-p, one random stream a row."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Choice(NamedTuple):
    """Settings of every row, so that one batch may mix them."""

    temperature: Array
    """float32[B]; 0 takes the likeliest token."""
    top_k: Array
    """int32[B]; 0 keeps every token."""
    top_p: Array
    """float32[B] in (0, 1]; 1 keeps every token."""
    key: Array
    """key[B]; a row's draws do not depend on its neighbours."""


def pick(logits: Array, choice: Choice, step: Array) -> Array:
    """float32[B, V] to int32[B]: the token of this step."""
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    random = choice.temperature > 0
    # Sorting the vocabulary costs as much as a small model: only when some row wants it.
    drawn = lax.cond(random.any(), _draw, lambda *_: greedy, logits, choice, step)
    return jnp.where(random, drawn, greedy)


def _draw(logits: Array, choice: Choice, step: Array) -> Array:
    heat = jnp.where(choice.temperature > 0, choice.temperature, 1.0)
    kept = keep_likeliest(logits / heat[:, None], choice.top_k, choice.top_p)
    keys = jax.vmap(jax.random.fold_in, (0, None))(choice.key, step)
    return jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)


def keep_likeliest(logits: Array, top_k: Array, top_p: Array) -> Array:
    """float32[B, V] with all tokens beyond top-k, then beyond top-p, at minus infinity.

    A token stays when the probability of the likelier ones is below ``top_p``, so one always does;
    equals of the last that stays, stay.
    """
    ranked = -jnp.sort(-logits, axis=-1)
    limit = jnp.where(top_k > 0, top_k, logits.shape[-1])[:, None]
    in_top_k = jnp.arange(logits.shape[-1]) < limit
    probability = jax.nn.softmax(ranked, axis=-1, where=in_top_k)
    before = jnp.cumsum(probability, axis=-1) - probability
    kept = in_top_k & ((before < top_p[:, None]) | (top_p[:, None] >= 1))
    least = jnp.min(jnp.where(kept, ranked, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < least, -jnp.inf, logits)
