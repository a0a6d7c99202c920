"""Rows of a batch: each one example, padded, or several that do not see each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from kinema.messages import Conversation
from kinema.training.examples import IGNORED, Example

Row = Sequence[Example]


@dataclass(frozen=True, eq=False)
class Rows(Dataset[Row]):
    """Conversations by row, made into examples when a row is asked for."""

    conversations: Sequence[Conversation]
    rows: Sequence[Sequence[int]]
    make: Callable[[Conversation], Example]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return [self.make(self.conversations[i]) for i in self.rows[index]]


@dataclass(frozen=True)
class Collate:
    """Rows of examples to the model's inputs, padded on the right."""

    pad_id: int
    packed: bool = False
    """Several examples a row: positions begin again at each, which keeps attention inside."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """``input_ids`` and ``labels`` int64[B, S], where tokens are, and the media in order."""
        batch: dict[str, Any] = {
            "input_ids": _padded(rows, self.pad_id, lambda e: e.input_ids),
            "labels": _padded(rows, IGNORED, _shiftable_labels),
            # A cache would cost memory, and attention only reads packed positions without one.
            "use_cache": False,
        }
        if self.packed:
            longest = batch["input_ids"].shape[1]
            counts = [[len(example) for example in row] for row in rows]
            runs = [[*row, longest - sum(row)] for row in counts]
            positions = [torch.cat([torch.arange(count) for count in row]) for row in runs]
            batch["position_ids"] = torch.stack(positions)
        else:
            batch["attention_mask"] = _padded(rows, 0, lambda e: torch.ones_like(e.input_ids))
        examples = [example for row in rows for example in row]
        for name in dict.fromkeys(name for example in examples for name in example.media):
            batch[name] = torch.cat([e.media[name] for e in examples if name in e.media])
        return batch


def _padded(rows: Sequence[Row], filler: int, take: Callable[[Example], Tensor]) -> Tensor:
    values = [torch.cat([take(example) for example in row]) for row in rows]
    return pad_sequence(values, batch_first=True, padding_value=filler)


def _shiftable_labels(example: Example) -> Tensor:
    """Labels whose first one is ignored: it would be predicted by the example before."""
    return torch.cat([example.labels.new_tensor([IGNORED]), example.labels[1:]])
