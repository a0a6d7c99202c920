"""Which requests run together, and how their tensors become one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad

from kinema.engines.hf.inputs import Inputs, Tensors
from kinema.families import Family
from kinema.messages import Request, SamplingParams

_PER_TOKEN = {"input_ids", "attention_mask", "mm_token_type_ids"}
_WAITING = 4
"""Batches' worth of requests that may wait for company."""


def batches(requests: Iterable[Request], *, size: int, family: Family) -> Iterator[list[Request]]:
    """Groups of up to ``size`` requests that one call of ``generate`` can answer.

    Requests wait until their group is full or too many wait; nothing waits for ever.
    """
    waiting: dict[object, list[Request]] = {}
    for request in requests:
        group = waiting.setdefault(company(request, family), [])
        group.append(request)
        if len(group) == size or not _may_share(request.params):
            yield waiting.pop(company(request, family))
        elif sum(map(len, waiting.values())) >= _WAITING * size:
            largest = max(waiting, key=lambda key: len(waiting[key]))
            yield waiting.pop(largest)
    yield from waiting.values()


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
