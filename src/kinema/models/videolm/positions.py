"""Temporal positions: what tells the model when a row of features was seen.

A module here is called with float[N, L, D] features and int64[N] frame indices, -1 for a row that
belongs to no single frame, and returns the features with time in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinema.errors import UsageError


class LearnedPositions(nn.Module):
    """One learned vector a frame and layer, added to the features before the projector."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.max_frames = config.max_frames
        self.num_layers = len(config.select_layers)
        self.table = nn.Embedding(self.max_frames, self.num_layers * config.vision_hidden_size)

    def forward(self, features: Tensor, frame_of_feature: Tensor) -> Tensor:
        """Add positions: float[N, L, D] and int64[N] (-1: no position) to float[N, L, D].

        Raises:
            UsageError: a frame lies beyond the table.
        """
        last = int(frame_of_feature.max())
        if last >= self.max_frames:
            raise UsageError(
                f"{last + 1} frames were given and the table of positions has {self.max_frames}.",
                hint=f"Use --num-frames {self.max_frames} or less.",
            )
        rows = self.table(frame_of_feature.clamp(min=0))
        rows = torch.unflatten(rows, 1, (self.num_layers, -1))
        belongs = (frame_of_feature >= 0)[:, None, None]
        return features + torch.where(belongs, rows, 0)


TIMES: dict[str, Callable[[Any], nn.Module | None]] = {
    "none": lambda config: None,
    "learned": LearnedPositions,
    "timestamps": lambda config: None,  # words in the prompt: the processor writes them
}
"""Choices of ``config.time``, made from a ``VideoLMConfig``."""
