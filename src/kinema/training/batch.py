"""Rows of a batch: each one example, padded, or several that do not see each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kinema.messages import Conversation
from kinema.training.examples import IGNORED, Example

Row = Sequence[Example]


class Rows(Dataset[Row]):
    """Conversations by row, made into examples when a row is asked for."""

    def __init__(
        self,
        conversations: Sequence[Conversation],
        rows: Sequence[Sequence[int]],
        make: Callable[[Conversation], Example],
    ) -> None:
        self._conversations = conversations
        self._rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return [self._make(self._conversations[i]) for i in self._rows[index]]


@dataclass(frozen=True)
class Collate:
    """Rows of examples to the model's inputs, padded on the right."""

    pad_id: int
    packed: bool = False
    """Several examples a row: positions begin again at each, which keeps attention inside."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """``input_ids`` and ``labels`` int64[B, S], where tokens are, and the media in order."""
        longest = max(sum(map(len, row)) for row in rows)
        batch = {
            "input_ids": _stack(rows, longest, self.pad_id, lambda e: e.input_ids),
            "labels": _stack(rows, longest, IGNORED, _shiftable_labels),
            **self._where(rows, longest),
            **_media(rows),
        }
        # A cache would cost memory, and attention only reads packed positions without one.
        return batch | {"use_cache": False}

    def _where(self, rows: Sequence[Row], longest: int) -> dict[str, Tensor]:
        if not self.packed:
            ones = _stack(rows, longest, 0, lambda e: torch.ones_like(e.input_ids))
            return {"attention_mask": ones}
        positions = [
            torch.cat([*(torch.arange(len(e)) for e in row), torch.arange(longest - _length(row))])
            for row in rows
        ]
        return {"position_ids": torch.stack(positions)}


def _length(row: Row) -> int:
    return sum(map(len, row))


def _stack(
    rows: Sequence[Row], longest: int, filler: int, take: Callable[[Example], Tensor]
) -> Tensor:
    padded = []
    for row in rows:
        values = torch.cat([take(example) for example in row])
        padding = values.new_full((longest - len(values),), filler)
        padded.append(torch.cat([values, padding]))
    return torch.stack(padded)


def _shiftable_labels(example: Example) -> Tensor:
    """Labels whose first one is ignored: it would be predicted by the example before."""
    return torch.cat([example.labels.new_tensor([IGNORED]), example.labels[1:]])


def _media(rows: Sequence[Row]) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {}
    for row in rows:
        for example in row:
            for name, tensor in example.media.items():
                found.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in found.items()}
