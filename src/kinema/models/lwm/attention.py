"""Causal attention whose memory grows linearly: blocks with an online softmax, a ring over devices.

Keys and values live in slots. A prompt is padded on the left, so row ``b`` may look at slots from
``first_slot[b]`` to its own. Every function works on one device's slice; :func:`prefill_attention`
and :func:`decode_attention` place the slices when there is a mesh.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

HIDDEN = -1e30
"""Score of a slot that must not be seen; finite, so that a row of them gives no NaN."""

ROWS = ("dp", "fsdp")
"""Mesh axes that share out the batch."""


class Running(NamedTuple):
    """A softmax that has seen some of its keys."""

    total: Array
    """float32[B, H, L, D]: values weighted so far, not normalised."""
    peak: Array
    """float32[B, H, L]: highest score so far."""
    mass: Array
    """float32[B, H, L]: sum of exp(score - peak) so far."""

    @property
    def result(self) -> Array:
        """float32[B, H, L, D]."""
        return self.total / jnp.maximum(self.mass, 1e-30)[..., None]


def start(query: Array) -> Running:
    """A softmax that has seen nothing."""
    rows = query.shape[:-1]
    # Derived from the query, so that inside shard_map it varies over the mesh as the query does.
    zeros = jnp.zeros_like(query, dtype=jnp.float32)
    return Running(zeros, jnp.full(rows, HIDDEN) + zeros[..., 0], zeros[..., 0])


def absorb(state: Running, query: Array, key: Array, value: Array, visible: Array) -> Running:
    """Let ``query[B, H, L, D]`` see ``key, value[B, H, S, D]`` where ``bool[B, 1, L, S]`` says."""
    score = jnp.einsum("bhld,bhsd->bhls", query, key, preferred_element_type=jnp.float32)
    score = jnp.where(visible, score * query.shape[-1] ** -0.5, HIDDEN)
    peak = jnp.maximum(state.peak, score.max(axis=-1))
    weight = jnp.where(visible, jnp.exp(score - peak[..., None]), 0.0)
    seen = jnp.einsum(
        "bhls,bhsd->bhld", weight.astype(value.dtype), value, preferred_element_type=jnp.float32
    )
    fade = jnp.exp(state.peak - peak)
    return Running(
        state.total * fade[..., None] + seen, peak, state.mass * fade + weight.sum(axis=-1)
    )


class Blocks(NamedTuple):
    """How a sequence is cut; both sizes divide the length of one device's slice."""

    query: int
    key: int


def absorb_blocks(
    state: Running,
    query: Array,
    key: Array,
    value: Array,
    *,
    query_start: Array,
    key_start: Array,
    first_slot: Array,
    blocks: Blocks,
) -> Running:
    """As :func:`absorb` for whole slices that begin at the given slots, block by block.

    Blocks above the diagonal and blocks of padding are never computed.
    """
    num_keys = key.shape[2] // blocks.key

    def one_query_block(start_at: Array, block: tuple[Array, Running]) -> tuple[Array, Running]:
        query_slots = start_at + jnp.arange(blocks.query)
        last = jnp.clip(-(-(start_at + blocks.query - key_start) // blocks.key), 0, num_keys)
        first = jnp.clip((first_slot.min() - key_start) // blocks.key, 0, last)

        def one_key_block(index: Array, state: Running) -> Running:
            at = index * blocks.key
            keys = lax.dynamic_slice_in_dim(key, at, blocks.key, axis=2)
            values = lax.dynamic_slice_in_dim(value, at, blocks.key, axis=2)
            key_slots = key_start + at + jnp.arange(blocks.key)
            visible = (key_slots <= query_slots[:, None]) & (
                key_slots >= first_slot[:, None, None, None]
            )
            return absorb(state, block[0], keys, values, visible)

        done = lax.fori_loop(first, last, one_key_block, block[1])
        return start_at + blocks.query, done

    cut = partial(_cut, size=blocks.query)
    _, done = lax.scan(one_query_block, query_start, (cut(query), Running(*map(cut, state))))
    return Running(*(_join(part) for part in done))


def _cut(x: Array, size: int) -> Array:
    """[B, H, L, ...] to [L/size, B, H, size, ...]."""
    b, h, length, *rest = x.shape
    return jnp.moveaxis(x.reshape(b, h, length // size, size, *rest), 2, 0)


def _join(x: Array) -> Array:
    """The inverse of :func:`_cut`."""
    n, b, h, size, *rest = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(b, h, n * size, *rest)


def prefill_attention(
    query: Array, key: Array, value: Array, *, first_slot: Array, blocks: Blocks, mesh: Mesh | None
) -> Array:
    """Causal attention of a whole prompt, ``[B, H, L, D]`` each; the result in the query's dtype.

    With a mesh, keys and values travel around the ``sp`` ring while every device keeps its queries.
    """
    if mesh is None:
        zero = jnp.int32(0)
        done = absorb_blocks(
            start(query), query, key, value, query_start=zero, key_start=zero,
            first_slot=first_slot, blocks=blocks,
        )  # fmt: skip
        return done.result.astype(query.dtype)
    spread = P(ROWS, "tp", "sp", None)
    ring: Any = jax.shard_map(
        partial(_ring, blocks=blocks, size=mesh.shape["sp"]),
        mesh=mesh,
        in_specs=(spread, spread, spread, P(ROWS)),
        out_specs=spread,
        check_vma=False,
    )
    result: Array = ring(query, key, value, first_slot)
    return result


def _ring(q: Array, k: Array, v: Array, first_slot: Array, *, blocks: Blocks, size: int) -> Array:
    rank, length = lax.axis_index("sp"), q.shape[2]
    state = start(q)
    for hop in range(size):
        owner = (rank - hop) % size
        state = absorb_blocks(
            state, q, k, v, query_start=rank * length, key_start=owner * length,
            first_slot=first_slot, blocks=blocks,
        )  # fmt: skip
        if hop + 1 < size:
            around = [(i, (i + 1) % size) for i in range(size)]
            k, v = lax.ppermute((k, v), "sp", around)
    return state.result.astype(q.dtype)


class Cache(NamedTuple):
    """Keys and values of N layers, ``[N, B, H, S, D]`` each."""

    key: Array
    value: Array


def decode_attention(
    query: Array,
    key: Array,
    value: Array,
    cache: Cache,
    *,
    layer: Array,
    slot: Array,
    first_slot: Array,
    mesh: Mesh | None,
) -> tuple[Array, Cache]:
    """Write one token's key and value into ``slot`` and let its query see all slots up to there.

    ``query``, ``key`` and ``value`` are ``[B, H, 1, D]``. With a mesh, slots are spread over
    ``sp``: the owner writes, all look, and the partial softmaxes are summed.
    """
    if mesh is None:
        at = (layer, 0, 0, slot, 0)
        cache = Cache(_write(cache.key, key, at), _write(cache.value, value, at))
        seen = _look(query, cache, layer, key_start=0, slot=slot, first_slot=first_slot)
        return seen.result.astype(query.dtype), cache
    held, one = P(None, ROWS, "tp", "sp", None), P(ROWS, "tp", None, None)
    spread: Any = jax.shard_map(
        _decode_slice,
        mesh=mesh,
        in_specs=(one, one, one, held, P(), P(), P(ROWS)),
        out_specs=(one, held),
        check_vma=False,
    )
    result: tuple[Array, Cache] = spread(query, key, value, cache, layer, slot, first_slot)
    return result


def _write(held: Array, new: Array, at: tuple[ArrayLike, ...]) -> Array:
    return lax.dynamic_update_slice(held, new.astype(held.dtype)[None], at)


def _look(
    query: Array,
    cache: Cache,
    layer: Array,
    *,
    key_start: ArrayLike,
    slot: Array,
    first_slot: Array,
) -> Running:
    slots = jnp.arange(cache.key.shape[3]) + key_start
    visible = (slots <= slot) & (slots >= first_slot[:, None, None, None])
    key, value = (lax.dynamic_index_in_dim(held, layer, keepdims=False) for held in cache)
    return absorb(start(query), query, key, value, visible)


def _decode_slice(
    query: Array,
    key: Array,
    value: Array,
    cache: Cache,
    layer: Array,
    slot: Array,
    first_slot: Array,
) -> tuple[Array, Cache]:
    length = cache.key.shape[3]
    key_start = lax.axis_index("sp") * length
    mine = (slot >= key_start) & (slot < key_start + length)
    at = (layer, 0, 0, jnp.clip(slot - key_start, 0, length - 1), 0)
    cache = Cache(_write_if(mine, cache.key, key, at), _write_if(mine, cache.value, value, at))
    part = _look(query, cache, layer, key_start=key_start, slot=slot, first_slot=first_slot)
    peak = lax.pmax(part.peak, "sp")
    fade = jnp.exp(part.peak - peak)
    total = lax.psum(part.total * fade[..., None], "sp")
    mass = lax.psum(part.mass * fade, "sp")
    return Running(total, peak, mass).result.astype(query.dtype), cache


def _write_if(mine: Array, held: Array, new: Array, at: tuple[ArrayLike, ...]) -> Array:
    """Keep the one entry as it was where another device owns the slot."""
    kept = lax.dynamic_slice(held, at, (1, *new.shape))[0]
    return _write(held, jnp.where(mine, new.astype(held.dtype), kept), at)
