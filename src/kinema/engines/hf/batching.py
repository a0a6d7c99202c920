"""Which requests run together, and how their tensors become one batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad

from kinema.engines.hf.inputs import Inputs, Tensors
from kinema.families import Family
from kinema.messages import Request, SamplingParams

_PER_TOKEN = {"input_ids", "attention_mask", "mm_token_type_ids"}
_WAITING = 4
"""Batches' worth of requests that may come while one waits for company of its length."""
_NEAR_CHARACTERS = 16
"""A few tokens."""


def batches(requests: Iterable[Request], *, size: int, family: Family) -> Iterator[list[Request]]:
    """Groups of up to ``size`` requests that one call of ``generate`` can answer.

    Requests of about one length go as soon as they fill a group. Others wait while more come, and
    then go with those that are nearest in length: padding is small, and nothing waits for ever.
    """
    waiting: dict[int, Request] = {}
    for number, request in enumerate(requests):
        waiting[number] = request
        near = [n for n in _alike(number, waiting, family) if _is_near(waiting[n], request)]
        oldest = next(iter(waiting))
        if len(near) == size or not _may_share(request.params):
            yield [waiting.pop(n) for n in near]
        elif number - oldest >= _WAITING * size - 1:
            yield [waiting.pop(n) for n in _nearest(oldest, waiting, size, family)]
    while waiting:
        oldest = next(iter(waiting))
        yield [waiting.pop(n) for n in _nearest(oldest, waiting, size, family)]


def length_of(request: Request) -> tuple[int, int]:
    """Rises with the tokens of a prompt; found without the processor, which takes a while."""
    shown = sum(medium.frames.pixels.size for medium in request.media)
    shown += sum(math.prod(features.values.shape) for features in request.features)
    return shown, len(request.prompt.text)


def _is_near(one: Request, other: Request) -> bool:
    """Whether padding the shorter one to the longer costs a few tokens at most."""
    (shown, characters), (also_shown, others) = length_of(one), length_of(other)
    return shown == also_shown and abs(characters - others) <= _NEAR_CHARACTERS


def _alike(number: int, waiting: Mapping[int, Request], family: Family) -> list[int]:
    wanted = company(waiting[number], family)
    return [n for n, other in waiting.items() if company(other, family) == wanted]


def _nearest(number: int, waiting: Mapping[int, Request], size: int, family: Family) -> list[int]:
    """Up to ``size`` neighbours by length, this request among them: the run of least spread."""

    def spread(run: list[int]) -> tuple[int, int]:
        shortest, longest = length_of(waiting[run[0]]), length_of(waiting[run[-1]])
        return longest[0] - shortest[0], longest[1] - shortest[1]

    ordered = sorted(_alike(number, waiting, family), key=lambda n: length_of(waiting[n]))
    last = max(0, len(ordered) - size)
    place = ordered.index(number)
    starts = range(min(last, max(0, place - size + 1)), min(last, place) + 1)
    return min((ordered[start : start + size] for start in starts), key=spread)


def _may_share(params: SamplingParams) -> bool:
    """A seeded random answer is only repeatable when it is drawn alone."""
    return params.temperature == 0 or params.seed is None


def company(request: Request, family: Family) -> object:
    """What requests must have in common: parameters and, for some families, frames a clip."""
    params = request.params if _may_share(request.params) else request.id
    if isinstance(params, SamplingParams):
        params = replace(params, seed=None)
    if family.ragged_batch_ok:
        return params
    shown = family.exact_frames or family.min_frames
    return params, tuple({max(shown, len(m.frames)) for m in request.media if m.kind == "video"})


def collate(batch: list[Inputs], *, pad_id: int) -> Tensors:
    """One batch, left padded: ``int64[B, L]`` ids, media of all rows one after another."""
    if len(batch) == 1:
        return dict(batch[0].tensors)
    length = max(map(len, batch))
    names = dict.fromkeys(name for inputs in batch for name in inputs.tensors)
    return {
        name: _left_padded(name, batch, length, pad_id)
        if name in _PER_TOKEN
        else _joined([i.tensors[name] for i in batch if name in i.tensors])
        for name in names
    }


def _left_padded(name: str, batch: list[Inputs], length: int, pad_id: int) -> torch.Tensor:
    filler = pad_id if name == "input_ids" else 0
    rows = (
        inputs.tensors.get(name, torch.zeros_like(inputs.tensors["input_ids"])) for inputs in batch
    )
    return torch.cat([pad(row, (length - row.shape[1], 0), value=filler) for row in rows])


def _joined(values: list[Any]) -> Any:
    """Tensors end to end; where their other sides differ, the smaller are padded with zeros."""
    if not isinstance(values[0], torch.Tensor):
        return [item for value in values for item in value]
    if values[0].dim() == 1:
        return torch.cat(values)
    sides = [max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True)]
    return torch.cat([_padded(value, sides) for value in values])


def _padded(value: torch.Tensor, sides: list[int]) -> torch.Tensor:
    missing = [side - own for side, own in zip(sides, value.shape[1:], strict=True)]
    if not any(missing):
        return value
    return pad(value, [n for side in reversed(missing) for n in (0, side)])
