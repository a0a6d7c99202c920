"""Which requests run together, and how their tensors become one batch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad

from kinema.engines.hf.inputs import Inputs, Tensors
from kinema.errors import RequestRefused
from kinema.families import Family
from kinema.messages import Request
from kinema.models.per_token import is_of_media, is_per_token

_ZERO_FOR_WORDS = {"token_type_ids", "mm_token_type_ids"}
"""Inputs that processors leave out for a prompt without media, or that mean words by zero."""
_PADDED = re.compile("pixel|patches|features")
"""Inputs of media that are filled up with zeros where others are larger."""


def pick(
    waiting: Sequence[Request], *, size: int, family: Family, is_random: bool = False
) -> list[Request]:
    """Up to ``size`` requests that one batch can answer, the first one always among them.

    Questions that show what the first one shows come first. Then come the others, those about one
    video side by side, nearest to the first one in length, so that padding is small.

    Args:
        waiting: requests, the one that waits longest first.
        size: of a batch, at most.
        family: says whether clips of different length may share one.
        is_random: answers are drawn although a request asks for no temperature.
    """
    first, *others = waiting
    key = batch_key(first, family, is_random)
    compatible = [first, *(r for r in others if batch_key(r, family, is_random) == key)]
    groups: dict[object, list[Request]] = {}
    for request in compatible:
        # A request without media shows nothing that it could share.
        groups.setdefault(shown_memory(request) or request.id, []).append(request)
    own, *rest = groups.values()
    shown, characters = length_of(first)

    def distance(request: Request) -> tuple[int, int]:
        also_shown, others = length_of(request)
        return abs(shown - also_shown), abs(characters - others)

    rest.sort(key=lambda group: min(map(distance, group)))
    return [request for group in (own, *rest) for request in group][:size]


def batch_key(request: Request, family: Family, is_random: bool = False) -> object:
    """What requests of one batch have in common: parameters and, for some families, frames a clip.

    A request that has to run alone has a key of its own: a seeded random answer is repeatable only
    when it is drawn alone, and log-probabilities move with the other rows of a batch.
    """
    params = request.params
    is_random = is_random or params.temperature > 0
    if params.logprobs is not None or (is_random and params.seed is not None):
        return request.id
    params = replace(params, seed=None)
    # The model takes the media of a batch as frames, or as features, not both.
    kind = "features" if request.features else "frames"
    if family.ragged_batch_ok:
        return params, kind
    shown = family.exact_frames or family.min_frames
    counts = {max(shown, len(m.frames)) for m in request.media if m.kind == "video"}
    return params, kind, tuple(counts)


def length_of(request: Request) -> tuple[int, int]:
    """Rises with the tokens of a prompt; found without the processor, which takes a while."""
    shown = sum(medium.frames.pixels.size for medium in request.media)
    shown += sum(math.prod(features.values.shape) for features in request.features)
    return shown, len(request.prompt.text)


def shown_memory(request: Request) -> tuple[object, ...]:
    """Where the pixels and features of a request lie in memory; empty when it shows nothing.

    Requests with the same places show the same, and nothing is read to find that out. It holds
    while one of them is alive.
    """
    # Views of one video are arrays of their own over the same memory.
    frames = (
        (medium.kind, _place(medium.frames.pixels), _place(medium.frames.seconds))
        for medium in request.media
    )
    return (*frames, *(id(features.values) for features in request.features))


def _place(array: Any) -> tuple[object, ...]:
    facts = array.__array_interface__
    return facts["data"][0], facts["shape"], facts["strides"]


def obstacle(batch: Sequence[Inputs]) -> str | None:
    """The name of an input that keeps requests from sharing a batch; None where there is none.

    Such requests are right only when each runs alone.
    """
    for name in dict.fromkeys(name for inputs in batch for name in inputs.tensors):
        having = [inputs for inputs in batch if name in inputs.tensors]
        per_token = [is_per_token(name, i.tensors[name], len(i)) for i in having]
        if all(per_token):
            # Zero is what processors give to words that belong to no medium. A cross-attention
            # mask has no such value, and its pictures stand in rows of the batch.
            if len(having) < len(batch) and name not in _ZERO_FOR_WORDS:
                return name
        elif not is_of_media(name) or not _may_join([i.tensors[name] for i in having], name):
            return name
    return None


def _may_join(values: Sequence[Any], name: str) -> bool:
    """Whether media of several rows may stand one after another.

    Pixels and features may be filled up with zeros, as processors do it; of other values only the
    processor would know what stands for nothing.
    """
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    same = len({value.shape[1:] for value in tensors}) <= 1
    return same or _PADDED.search(name) is not None


def collate(batch: Sequence[Inputs], *, pad_id: int) -> Tensors:
    """One batch, left padded: ``int64[B, L]`` ids, media of all rows one after another.

    Raises:
        RequestRefused: an input of a kind that is not known; see :func:`obstacle`.
    """
    if len(batch) == 1:
        return dict(batch[0].tensors)
    if (unknown := obstacle(batch)) is not None:
        raise RequestRefused(
            f"These requests cannot share a batch: nobody knows how {unknown} is padded.",
            hint="Use --batch-size 1.",
        )
    names = dict.fromkeys(name for inputs in batch for name in inputs.tensors)
    return {name: _batched(name, batch, pad_id) for name in names}


def _batched(name: str, batch: Sequence[Inputs], pad_id: int) -> Any:
    having = [inputs for inputs in batch if name in inputs.tensors]
    if not all(is_per_token(name, i.tensors[name], len(i)) for i in having):
        return _joined([inputs.tensors[name] for inputs in having])
    length = max(map(len, batch))
    filler = pad_id if name == "input_ids" else 0
    plain = having[0].tensors[name]
    rows = [
        # A row without the input has no picture, and zeros in its place.
        inputs.tensors.get(name, plain.new_zeros(1, len(inputs), *plain.shape[2:]))
        for inputs in batch
    ]
    filled = (
        pad(row, (*(0, 0) * (row.dim() - 2), length - row.shape[1], 0), value=filler)
        for row in rows
    )
    return _joined(list(filled))


def _joined(values: list[Any]) -> Any:
    """Tensors end to end; where their other sides differ, the smaller are padded with zeros."""
    if not isinstance(values[0], torch.Tensor):
        return [item for value in values for item in value]
    if values[0].dim() == 1:
        return torch.cat(values)
    sides = [max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True)]
    missing = (
        [side - own for side, own in zip(sides, value.shape[1:], strict=True)] for value in values
    )
    ends = ([n for side in reversed(one) for n in (0, side)] for one in missing)
    return torch.cat([pad(value, end) for value, end in zip(values, ends, strict=True)])
