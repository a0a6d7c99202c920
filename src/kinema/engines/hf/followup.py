"""The KV cache of what a model has already read, so that a follow-up reads only its own words.

A follow-up's prompt begins with the earlier prompt and answer. Their KV cache is kept; the next
question is tokenised as text (its media are known), compared with the kept ids and
run from the first id that differs. Ids are compared, never assumed: an answer whose text does
not tokenise back to the generated ids is read again from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicLayer

from kinema.engines.hf.inputs import InputMaker, Inputs, common_length
from kinema.messages import Media, Request
from kinema.models.per_token import is_per_token

_CUTTABLE = (DynamicLayer,)
"""Layers of caches that hold keys and values of each token, and of nothing else."""
_CAUSAL = {"input_ids", "attention_mask", "mm_token_type_ids"}
"""Inputs of models whose tokens hear earlier ones alone."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One conversation as the model has read it."""

    inputs: Inputs
    """The last prompt."""
    ids: torch.Tensor
    """``int64[L]``: the prompt and the part of the answer that was read."""
    cache: Any
    """KV cache of ``ids``."""
    rope_deltas: torch.Tensor | None
    """How far positions run ahead of indices (Qwen's line), ``int64[1, 1]``."""


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A question whose beginning has been read."""

    inputs: Inputs
    kept: Kept
    length: int
    """Ids of the question that need not be read again."""


def inputs_of(prepared: Inputs | FollowUp) -> Inputs:
    """The whole prompt, however much of it has been read."""
    return prepared.inputs if isinstance(prepared, FollowUp) else prepared


class Conversations:
    """The last conversations of an engine, newest last."""

    def __init__(self, maker: InputMaker, *, capacity: int) -> None:
        self._maker = maker
        self._capacity = capacity
        self._kept: list[Kept] = []

    @property
    def holds_any(self) -> bool:
        """False, too, where caches are of a kind that cannot be kept."""
        return bool(self._kept)

    def match(self, request: Request) -> FollowUp | None:
        """The kept conversation that the request goes on with, if there is one."""
        for kept in reversed(self._kept):
            if same_input(kept.inputs.request, request):
                followed = self._follow(kept, request)
                if followed is not None:
                    return followed
        return None

    def take(self, kept: Kept) -> None:
        """Remove a conversation whose cache is about to change."""
        self._kept = [other for other in self._kept if other is not kept]

    def keep(self, inputs: Inputs, sequence: torch.Tensor, cache: Any, model: Any) -> None:
        """Remember ``int64[L]`` ids and their cache; the oldest conversation makes room."""
        if not self._capacity or not _can_be_cut(cache) or not _is_read_in_order(inputs):
            return
        deltas = getattr(model.base_model, "rope_deltas", None)
        read = sequence[: cache.get_seq_length()].cpu()
        # Pixels were read too and are not needed again; only the prompt's ids are.
        slim = Inputs(inputs.request, {"input_ids": inputs.tensors["input_ids"]}, inputs.plain_ids)
        self._kept = [*self._kept, Kept(slim, read, cache, deltas)][-self._capacity :]

    def clear(self) -> None:
        """Forget everything and give the memory back."""
        self._kept = []

    def _follow(self, kept: Kept, request: Request) -> FollowUp | None:
        plain = self._maker.plain_ids(request)
        ids = self._maker.expanded_ids(kept.inputs, plain)
        if ids is None:
            return None
        seen = self._maker.num_seen(ids)
        length = min(common_length(kept.ids, ids), len(ids) - 1)
        if length < max(seen, 1):
            return None
        tensors = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids[None])}
        return FollowUp(Inputs(request, tensors, plain), kept, length)


def resume(followup: FollowUp, model: Any) -> Any:
    """The kept cache cut to what is shared, with the model's positions set to go on from it."""
    cache = followup.kept.cache
    cache.crop(followup.length - cache.get_seq_length())
    if hasattr(model.base_model, "rope_deltas"):
        model.base_model.rope_deltas = followup.kept.rope_deltas
    return cache


def _can_be_cut(cache: Any) -> bool:
    """Whether a cache can go back to an earlier token.

    Those of linear attention and of state spaces (Qwen3.5 and its kind) keep a sum of all that was
    read, sliding windows forget, and a cache of a kind that is new may do either.
    """
    layers = getattr(cache, "layers", [])
    return bool(layers) and all(type(layer) in _CUTTABLE for layer in layers)


def _is_read_in_order(inputs: Inputs) -> bool:
    """Whether what is read later changes nothing that was read earlier.

    PaliGemma's prompt is read in both directions, and mllama's cache holds its pictures too; both
    say so by an input that goes with the tokens.
    """
    length = len(inputs)
    per_token = {n for n, value in inputs.tensors.items() if is_per_token(n, value, length)}
    return per_token <= _CAUSAL


def same_input(old: Request, new: Request) -> bool:
    """Whether both show the same media, or the same features."""
    if len(old.media) != len(new.media) or len(old.features) != len(new.features):
        return False
    same_features = all(
        a.values is b.values for a, b in zip(old.features, new.features, strict=True)
    )
    return same_features and all(map(_same_medium, old.media, new.media))


def _same_medium(old: Media, new: Media) -> bool:
    if old.kind != new.kind or len(old.frames) != len(new.frames):
        return False
    if not np.array_equal(old.frames.seconds, new.frames.seconds):
        return False
    a, b = old.frames.pixels, new.frames.pixels
    if a.__array_interface__ == b.__array_interface__:
        return True
    return np.array_equal(a, b)
