"""Poolings: tower states of one medium to the rows that are projected (and may be stored)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kinema.models.videolm.layout import TokenLayout


def pool(states: Tensor, layout: TokenLayout) -> Tensor:
    """Pool one medium: float[T, L, S, D] to float[N, L, D].

    N is ``layout.feature_tokens(T)``.
    """
    if layout.pooling == "spatio_temporal":
        return spatio_temporal(states, num_temporal_tokens=layout.num_temporal_tokens)
    if layout.pooling == "grid":
        states = grid(states, rows=layout.grid[0], pool_grid=layout.pool_grid)
    return states.transpose(1, 2).flatten(0, 1)  # frame-major: frames in order, patches by row


def spatio_temporal(states: Tensor, *, num_temporal_tokens: int) -> Tensor:
    """T means over the patches, zero rows up to the limit, S means over the frames.

    float[T, L, S, D] to float[num_temporal_tokens + S, L, D]; the layout of Video-ChatGPT
    (Maaz et al. 2023, section 3.1). Absent frames count in neither mean.
    """
    temporal = states.mean(dim=2)  # (T, L, D)
    missing = num_temporal_tokens - len(temporal)
    temporal = functional.pad(temporal, (0, 0, 0, 0, 0, missing))
    spatial = states.mean(dim=0).transpose(0, 1)  # (S, L, D)
    return torch.cat([temporal, spatial])


def grid(states: Tensor, *, rows: int, pool_grid: int) -> Tensor:
    """Means over a k×k grid in every frame: float[T, L, S, D] to float[T, L, k*k, D]."""
    frames, layers, _, width = states.shape
    maps = torch.unflatten(states.flatten(0, 1).transpose(1, 2), 2, (rows, -1))
    means = functional.adaptive_avg_pool2d(maps, pool_grid).flatten(2)
    return means.transpose(1, 2).reshape(frames, layers, pool_grid**2, width)
