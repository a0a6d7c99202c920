"""Temporal positions: a learned table that tells the projector when a row was seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinema.errors import UsageError


class LearnedPositions(nn.Module):
    """One learned vector a frame and layer, added to the features before the projector."""

    def __init__(self, max_frames: int, num_layers: int, size: int) -> None:
        super().__init__()
        self.max_frames = max_frames
        self.num_layers = num_layers
        self.table = nn.Embedding(max_frames, num_layers * size)

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
