"""Prefill, then a compiled loop that adds tokens until every row stops or has enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from kinema.errors import ContextTooLong
from kinema.messages import SamplingParams
from kinema.models.lwm.llama import Decoder, Modality, Params, Tokens
from kinema.models.lwm.mesh import on_all, sharding
from kinema.models.lwm.prompt import LaidOut, bucket, pad_left
from kinema.models.lwm.sampling import Choice, pick

LENGTH_MULTIPLE = 128
"""Prompts and room for answers come in multiples of this many tokens, so few are compiled."""


class Settings(NamedTuple):
    """What the loop obeys; one entry a row, so that one batch may mix requests."""

    choice: Choice
    most: Array
    """int32[B]: tokens a row may add."""
    least: Array
    """int32[B]: tokens a row must add before it may end."""
    guidance: Array
    """float32[]: how far vision logits move away from the unconditional ones; 1 is not at all."""


class State(NamedTuple):
    """A batch on its way."""

    token: Array
    """int32[B]: picked last, not yet fed."""
    num_added: Array
    """int32[]: tokens picked so far."""
    done: Array
    """bool[B]."""
    added: Array
    """int32[B, N]."""
    slot: Array
    """int32[]: where the next token goes."""
    first_slot: Array
    """int32[B]."""
    cache: Any


class Picks(Protocol):
    """How logits become a token; static, so that every kind is compiled once."""

    @property
    def modality(self) -> Modality:
        """Which head is read and which embedding the token goes through."""
        ...

    def __call__(self, logits: Array, settings: Settings, count: Array) -> Array:
        """float32[B, V] to int32[B] for the token number ``count``."""
        ...

    def ends(self, token: Array) -> Array:
        """int32[B] to bool[B]: rows that say they are done."""
        ...


@dataclass(frozen=True)
class PickWords:
    """Text that ends with the end-of-sequence token."""

    eos_id: int
    modality: Modality = "text"

    def __call__(self, logits: Array, settings: Settings, count: Array) -> Array:
        """As the settings of each row say; no end before ``least`` tokens."""
        early = (count < settings.least)[:, None] & (jnp.arange(logits.shape[1]) == self.eos_id)
        return pick(jnp.where(early, -jnp.inf, logits), settings.choice, count)

    def ends(self, token: Array) -> Array:
        """True at the end-of-sequence token."""
        return token == self.eos_id


@partial(jax.jit, static_argnames=("decoder", "picks", "num_new"))
def begin(
    decoder: Decoder, picks: Picks, params: Params, tokens: Tokens, settings: Settings, num_new: int
) -> State:
    """Run the prompt and pick the first token; ``num_new`` slots are kept for the answer."""
    rows, length = tokens.ids.shape
    hidden, cache = decoder.prefill(params, tokens, length + num_new)
    token = picks(decoder.logits(params, hidden, picks.modality), settings, jnp.int32(0))
    added = jnp.zeros((rows, num_new), jnp.int32).at[:, 0].set(token)
    done = picks.ends(token) | (settings.most <= 1)
    one, slot = jnp.int32(1), jnp.int32(length)
    return State(token, one, done, added, slot, tokens.first_slot, cache)


@partial(jax.jit, static_argnames=("decoder", "picks"), donate_argnames="state")
def advance(
    decoder: Decoder, picks: Picks, params: Params, state: State, settings: Settings, until: Array
) -> State:
    """Add tokens until there are ``until`` of them or every row is done."""

    def unfinished(state: State) -> Array:
        return (state.num_added < until) & ~state.done.all()

    def add_one(state: State) -> State:
        hidden, cache = decoder.step(
            params, state.cache, state.token, picks.modality, state.slot, state.first_slot
        )
        token = picks(decoder.logits(params, hidden, picks.modality), settings, state.num_added)
        token = jnp.where(state.done, state.token, token)
        done = state.done | picks.ends(token) | (settings.most <= state.num_added + 1)
        added = lax.dynamic_update_slice_in_dim(
            state.added, token[:, None], state.num_added, axis=1
        )
        return State(
            token, state.num_added + 1, done, added, state.slot + 1, state.first_slot, cache
        )

    return lax.while_loop(unfinished, add_one, state)


def run(
    decoder: Decoder,
    picks: Picks,
    params: Params,
    prompts: Sequence[LaidOut],
    settings: Settings,
    *,
    every: int | None = None,
) -> Iterator[NDArray[np.int32]]:
    """Yield ``int32[B, n]``, everything added so far, each ``every`` tokens and at the end.

    On a mesh there must be a multiple of :func:`~kinema.models.lwm.mesh.batch_multiple` of them.

    Raises:
        ContextTooLong: a prompt and its answer exceed the model.
    """
    most = int(np.asarray(settings.most).max())
    tokens = batch(decoder, prompts, num_new=most)
    multiple = _multiple(decoder)
    room = -(-most // multiple) * multiple
    state = begin(decoder, picks, params, tokens, settings, room)
    until = 1
    while True:
        added, done = _on_host(decoder.mesh, state)
        if done or every is not None:
            yield added
        if done:
            return
        until = most if every is None else min(most, until + every)
        state = advance(decoder, picks, params, state, settings, jnp.int32(until))


def _on_host(mesh: Mesh | None, state: State) -> tuple[NDArray[np.int32], bool]:
    """What was added so far, and whether every row is done; each host gets all rows."""
    parts = (state.added, state.num_added, state.done.all())
    if mesh is not None:
        everywhere = sharding(mesh, PartitionSpec())
        parts = jax.jit(lambda held: held, out_shardings=everywhere)(parts)
    added, count, done = map(np.asarray, parts)
    return added[:, : int(count)], bool(done)


def batch(decoder: Decoder, prompts: Sequence[LaidOut], *, num_new: int) -> Tokens:
    """Pad prompts on the left to the bucket of the longest and place them on the mesh.

    Raises:
        ContextTooLong: the longest and its answer exceed the model.
    """
    longest = max(map(len, prompts))
    available = decoder.config.max_sequence_length
    if longest + num_new > available:
        raise ContextTooLong(needed=longest + num_new, available=available, largest_num_frames=None)
    ids, is_vision, first_slot = pad_left(prompts, bucket(longest, _multiple(decoder)))
    host = {"ids": ids, "is_vision": is_vision, "first_slot": first_slot}
    return Tokens(**on_all(decoder.mesh, host))


def settings_of(params: Sequence[SamplingParams], decoder: Decoder) -> Settings:
    """One row for each request; a request without a seed gets a fresh one."""
    fresh = np.random.default_rng()
    seeds = [int(fresh.integers(2**31)) if p.seed is None else p.seed for p in params]
    values = on_all(
        decoder.mesh,
        {
            "temperature": np.array([p.temperature for p in params], np.float32),
            "top_k": np.array([p.top_k for p in params], np.int32),
            "top_p": np.array([p.top_p for p in params], np.float32),
            "seed": np.array([seed % 2**32 for seed in seeds], np.uint32),
            "most": np.array([p.max_new_tokens for p in params], np.int32),
            "least": np.array([p.min_new_tokens for p in params], np.int32),
            "guidance": np.array(1.0, np.float32),
        },
    )
    key = jax.vmap(jax.random.key)(values.pop("seed"))
    choice = Choice(values.pop("temperature"), values.pop("top_k"), values.pop("top_p"), key)
    return Settings(choice, **values)


def _multiple(decoder: Decoder) -> int:
    return LENGTH_MULTIPLE * (decoder.mesh.shape["sp"] if decoder.mesh else 1)
