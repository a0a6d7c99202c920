"""Questions of one batch about one video: what they have in common is read once for all of them.

A row of such a batch is [filler, what is shared, filler, its own words]. Fillers are masked, and
positions count what is not masked, so a row's answer is the one it would get alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import torch
from torch.nn.functional import pad

from kinema.engines.base import world_size
from kinema.engines.hf.followup import FollowUp, same_input
from kinema.engines.hf.inputs import Tensors
from kinema.families import Family
from kinema.messages import Request, SamplingParams

FEWEST_SAVED = 512
"""Tokens that must be saved in a group: each group is read by a call of its own."""
READING = SamplingParams(max_new_tokens=1)
"""Parameters for a call that is made for its KV cache."""


def about_one_input(requests: Iterable[Request]) -> list[list[Request]]:
    """The requests by what they show; those without media stay by themselves."""
    groups: list[list[Request]] = []
    for request in requests:
        shows = request.media or request.features
        group = next((g for g in groups if shows and same_input(g[0], request)), None)
        if group is None:
            groups.append([request])
        else:
            group.append(request)
    return groups


def may_share(config: Any, family: Family) -> bool:
    """Whether all that a model has seen is in its KV cache, in one process."""
    fusion = getattr(config, "fusion", "splice")
    return world_size() == 1 and family.writes_freely and fusion == "splice"


def join(rows: Sequence[FollowUp], model: Any, *, pad_id: int) -> Tensors:
    """Tensors for ``generate`` of several questions on the caches that they go on from."""
    lengths = _shared_lengths(rows)
    deltas = [row.kept.rope_deltas for row in rows if row.kept.rope_deltas is not None]
    if deltas:
        model.base_model.rope_deltas = torch.cat(deltas)
    ids = [row.inputs.ids for row in rows]
    return {
        "input_ids": _laid_out(ids, lengths, pad_id),
        "attention_mask": _laid_out([torch.ones_like(row) for row in ids], lengths, 0),
        "past_key_values": _joined_cache([row.kept.cache for row in rows], lengths),
    }


def _shared_lengths(rows: Sequence[FollowUp]) -> list[int]:
    """How many ids of each row are those of all rows with its input."""
    shortest: dict[int, int] = {}
    for row in rows:
        shortest[id(row.kept)] = min(row.length, shortest.get(id(row.kept), row.length))
    return [shortest[id(row.kept)] for row in rows]


def _laid_out(rows: Sequence[torch.Tensor], lengths: Sequence[int], filler: int) -> torch.Tensor:
    """``int64[B, S + O]``: both parts of each ``int64[L]`` row, left padded to the longest."""
    longest = max(lengths)
    own = max(len(row) - length for row, length in zip(rows, lengths, strict=True))
    laid = []
    for row, length in zip(rows, lengths, strict=True):
        shared = pad(row[:length], (longest - length, 0), value=filler)
        laid.append(
            torch.cat([shared, pad(row[length:], (own - len(row) + length, 0), value=filler)])
        )
    return torch.stack(laid)


def _joined_cache(caches: Sequence[Any], lengths: Sequence[int]) -> Any:
    """The KV cache of all rows, in a copy of the first one."""
    longest = max(lengths)

    def rows(layer: int, name: str) -> torch.Tensor:
        held = [getattr(cache.layers[layer], name) for cache in caches]
        cut = [h[..., :length, :] for h, length in zip(held, lengths, strict=True)]
        return torch.cat([pad(h, (0, 0, longest - h.shape[-2], 0)) for h in cut])

    joined = [
        (rows(layer, "keys"), rows(layer, "values")) for layer in range(len(caches[0].layers))
    ]
    whole = copy(caches[0])
    whole.layers = list(map(copy, caches[0].layers))
    for layer, (keys, values) in zip(whole.layers, joined, strict=True):
        layer.keys, layer.values = keys, values
    return whole
