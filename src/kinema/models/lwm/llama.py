"""The decoder: a LLaMA with one embedding and one head for text and another for vision.

Weights stay in the tree of the released file, so nothing is renamed on the way in:
``transformer/{wte,vte}/embedding``, ``transformer/h/scan_decoder/...`` with a leading layer axis
(or ``transformer/h/0/...`` without it), ``transformer/ln_f``, ``lm_head``, ``vision_head``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from kinema.models.lwm.attention import Blocks, Cache, decode_attention, prefill_attention
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.rope import angles, rotate

Params = Mapping[str, Any]
"""A nested dict of arrays."""

Modality = Literal["text", "vision"]
"""Which vocabulary a token belongs to."""


class Tokens(NamedTuple):
    """A batch of prompts, padded on the left to one length.

    Text and vision ids share one array and are told apart by the mask alone.
    """

    ids: Array
    """int32[B, L]."""
    is_vision: Array
    """bool[B, L]."""
    first_slot: Array
    """int32[B]: how many slots of padding precede each prompt."""


@dataclass(frozen=True)
class Decoder:
    """How to run the layers: sizes, compute type, mesh. It holds no weights."""

    config: LWMConfig
    dtype: DTypeLike = jnp.float32
    mesh: Mesh | None = None

    @partial(jax.jit, static_argnums=0)
    def hidden(self, params: Params, tokens: Tokens) -> Array:
        """The last layer's output for every slot, ``[B, L, E]``; no cache is kept."""
        return self._prompt(params, tokens, 0)[0]

    def prefill(self, params: Params, tokens: Tokens, num_slots: int) -> tuple[Array, Any]:
        """Run a whole prompt: ``[B, E]`` of its last slot, and a cache with ``num_slots``."""
        x, cache = self._prompt(params, tokens, num_slots)
        return x[:, -1], cache

    def _prompt(self, params: Params, tokens: Tokens, num_slots: int) -> tuple[Array, Any]:
        length = tokens.ids.shape[1]
        positions = jnp.maximum(jnp.arange(length) - tokens.first_slot[:, None], 0)
        layer = partial(
            self._prompt_layer,
            turn=self._angles(positions),
            first_slot=tokens.first_slot,
            num_slots=num_slots,
        )
        x, cache = _over_layers(layer, self._embed(params, tokens), params)
        return self._norm(x, params["transformer"]["ln_f"]), cache

    def step(
        self, params: Params, cache: Any, token: Array, modality: Modality, slot: Array,
        first_slot: Array,
    ) -> tuple[Array, Any]:  # fmt: skip
        """Feed one ``int32[B]`` token that takes ``slot``: ``[B, E]`` and the cache after it."""
        table = "wte" if modality == "text" else "vte"
        x = params["transformer"][table]["embedding"][token][:, None].astype(self.dtype)
        turn = self._angles((slot - first_slot)[:, None])
        layer = partial(self._token_layer, turn=turn, slot=slot, first_slot=first_slot)
        x, cache = _over_layers_and_cache(layer, x, params, cache)
        return self._norm(x, params["transformer"]["ln_f"])[:, 0], cache

    def logits(self, params: Params, hidden: Array, modality: Modality) -> Array:
        """``[..., E]`` to float32[..., V] over the words or over the vision codes."""
        if modality == "text":
            kernel = params["lm_head"]["kernel"]
        elif self.config.tie_vision_embeddings:
            kernel = params["transformer"]["vte"]["embedding"].T
        else:
            kernel = params["vision_head"]["kernel"]
        logits: Array = jnp.matmul(
            hidden,
            kernel.astype(self.dtype),
            precision=self._precision,
            preferred_element_type=jnp.float32,
        )
        return logits

    @property
    def _precision(self) -> lax.Precision:
        # float32 asked is float32 given: the default on a GPU is TF32.
        return lax.Precision.HIGHEST if self.dtype == jnp.float32 else lax.Precision.DEFAULT

    def _embed(self, params: Params, tokens: Tokens) -> Array:
        tables, (ids, is_vision, _) = params["transformer"], tokens
        x: Array = tables["wte"]["embedding"][jnp.where(is_vision, 0, ids)]
        if self.config.sees:
            seen = tables["vte"]["embedding"][jnp.where(is_vision, ids, 0)]
            x = jnp.where(is_vision[..., None], seen, x)
        return x.astype(self.dtype)

    def _angles(self, positions: Array) -> Array:
        """int32[B, L] to float32[B, 1, L, D/2]."""
        return angles(positions, self.config.head_dim, self.config.theta)[:, None]

    def _prompt_layer(
        self, x: Array, layer: Params, *, turn: Array, first_slot: Array, num_slots: int
    ) -> tuple[Array, Cache | None]:
        query, key, value = self._project(x, layer, turn)
        blocks = self._blocks(x.shape[1])
        seen = prefill_attention(
            query, key, value, first_slot=first_slot, blocks=blocks, mesh=self.mesh
        )
        x = self._feed_forward(self._attended(x, seen, layer), layer)
        return x, Cache(_grown(key, num_slots), _grown(value, num_slots)) if num_slots else None

    def _token_layer(
        self,
        x: Array,
        layer: Params,
        cache: Cache,
        index: Array,
        *,
        turn: Array,
        slot: Array,
        first_slot: Array,
    ) -> tuple[Array, Cache]:
        seen, cache = decode_attention(
            *self._project(x, layer, turn),
            cache,
            layer=index,
            slot=slot,
            first_slot=first_slot,
            mesh=self.mesh,
        )
        return self._feed_forward(self._attended(x, seen, layer), layer), cache

    def _project(self, x: Array, layer: Params, turn: Array) -> tuple[Array, Array, Array]:
        weights, x = layer["attention"], self._norm(x, layer["attention_norm"])
        shape = (*x.shape[:2], self.config.num_attention_heads, self.config.head_dim)
        query, key, value = (
            jnp.swapaxes(self._dense(x, weights[n]).reshape(shape), 1, 2)  # [B, H, L, D]
            for n in ("wq", "wk", "wv")
        )
        return rotate(query, turn), rotate(key, turn), value

    def _attended(self, x: Array, seen: Array, layer: Params) -> Array:
        joined = jnp.swapaxes(seen, 1, 2).reshape(x.shape)
        return x + self._dense(joined, layer["attention"]["wo"])

    def _feed_forward(self, x: Array, layer: Params) -> Array:
        """In chunks of positions, so that the wide middle never exists for a whole long prompt."""
        num_rings = self.mesh.shape["sp"] if self.mesh else 1
        size = _divisor(x.shape[1] // num_rings or 1, self.config.scan_mlp_chunk_size)
        if x.shape[1] <= num_rings * size:
            return x + self._gated(x, layer)
        cut = x.reshape(x.shape[0], num_rings, -1, size, x.shape[-1])
        done = lax.map(lambda chunk: self._gated(chunk, layer), jnp.moveaxis(cut, 2, 0))
        return x + jnp.moveaxis(done, 0, 2).reshape(x.shape)

    def _gated(self, x: Array, layer: Params) -> Array:
        weights, x = layer["feed_forward"], self._norm(x, layer["ffn_norm"])
        gate, up = self._dense(x, weights["w1"]), self._dense(x, weights["w3"])
        return self._dense(jax.nn.silu(gate) * up, weights["w2"])

    def _dense(self, x: Array, weight: Params) -> Array:
        kernel: Array = weight["kernel"].astype(self.dtype)
        return jnp.matmul(x, kernel, precision=self._precision)

    def _norm(self, x: Array, weight: Params) -> Array:
        wide = x.astype(jnp.float32)
        scale = lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.config.rms_norm_eps)
        kernel: Array = weight["kernel"].astype(self.dtype)
        return (wide * scale).astype(self.dtype) * kernel

    def _blocks(self, length: int) -> Blocks:
        local = length // (self.mesh.shape["sp"] if self.mesh else 1)
        config = self.config
        return Blocks(
            _divisor(local, config.scan_query_chunk_size),
            _divisor(local, config.scan_key_chunk_size),
        )


def _divisor(length: int, at_most: int) -> int:
    """The largest chunk that cuts a length evenly."""
    return next(size for size in range(min(length, at_most), 0, -1) if length % size == 0)


def _grown(x: Array, num_slots: int) -> Array:
    """Room for the answer behind ``[B, H, L, D]``."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, num_slots - x.shape[2]), (0, 0)))


def _layers(params: Params) -> tuple[Params, ...]:
    named = params["transformer"]["h"]
    return tuple(named[name] for name in sorted(named, key=int))


def _over_layers(
    layer: Callable[[Array, Params], tuple[Array, Any]], x: Array, params: Params
) -> tuple[Array, Any]:
    stacked = params["transformer"]["h"].get("scan_decoder")
    if stacked is not None:
        scanned: tuple[Array, Any] = lax.scan(layer, x, stacked)
        return scanned
    caches = []
    for weights in _layers(params):
        x, cache = layer(x, weights)
        caches.append(jax.tree.map(lambda held: held[None], cache))
    return x, tuple(caches)


def _over_layers_and_cache(
    layer: Callable[[Array, Params, Cache, Array], tuple[Array, Cache]],
    x: Array,
    params: Params,
    cache: Any,
) -> tuple[Array, Any]:
    stacked = params["transformer"]["h"].get("scan_decoder")
    if stacked is None:
        caches = []
        for weights, held in zip(_layers(params), cache, strict=True):
            x, after = layer(x, weights, held, jnp.int32(0))
            caches.append(after)
        return x, tuple(caches)

    # The cache is carried and written in place; as scan output it would be copied every token.
    def one(carry: tuple[Array, Any], part: tuple[Array, Params]) -> tuple[tuple[Array, Any], None]:
        index, weights = part
        return layer(carry[0], weights, carry[1], index), None

    count = jax.tree.leaves(stacked)[0].shape[0]
    (x, cache), _ = lax.scan(one, (x, cache), (jnp.arange(count), stacked))
    return x, cache


def decoder_shapes(config: LWMConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the released form, layers stacked."""
    e, f, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    layer = "transformer/h/scan_decoder"
    shapes: dict[str, tuple[int, ...]] = {
        "transformer/wte/embedding": (config.vocab_size, e),
        "transformer/ln_f/kernel": (e,),
        "lm_head/kernel": (e, config.vocab_size),
        **{f"{layer}/attention/{w}/kernel": (n, e, e) for w in ("wq", "wk", "wv", "wo")},
        **{f"{layer}/feed_forward/{w}/kernel": (n, e, f) for w in ("w1", "w3")},
        f"{layer}/feed_forward/w2/kernel": (n, f, e),
        **{f"{layer}/{norm}/kernel": (n, e) for norm in ("attention_norm", "ffn_norm")},
    }
    if config.sees:
        shapes["transformer/vte/embedding"] = (config.vision_vocab_size, e)
        if not config.tie_vision_embeddings:
            shapes["vision_head/kernel"] = (e, config.vision_vocab_size)
    return shapes
