"""The resampler: a fixed number of queries that look at all frames of a medium.

Alayrac et al. 2022, section 3.1, with places and times that are told to the keys: however many
frames a medium has, the language model reads the same few tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTH, HEADS = 2, 8
_TIME_SINES = 8
"""Frequencies that tell the time of a frame, from half a turn a medium on."""


class Resampler(nn.Module):
    """Rows of features of one medium to ``num_queries`` tokens.

    Args:
        in_size: width of the features.
        out_size: width of the tokens.
        num_queries: tokens of every medium.
        num_places: rows of features that each frame has.
    """

    def __init__(self, *, in_size: int, out_size: int, num_queries: int, num_places: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_size)
        self.widen = nn.Linear(in_size, out_size)
        self.time = nn.Linear(2 * _TIME_SINES, out_size)
        self.places = nn.Embedding(num_places, out_size)
        self.queries = nn.Embedding(num_queries, out_size)
        self.blocks = nn.ModuleList(ResamplerBlock(out_size, HEADS) for _ in range(DEPTH))
        self.out = nn.Linear(out_size, out_size)

    def forward(self, features: Tensor) -> Tensor:
        """float[..., T*P, D], frame by frame, to float[..., num_queries, H]."""
        frames = torch.unflatten(features, -2, (-1, self.places.num_embeddings))
        times = self.time(_sines(frames.shape[-3]).to(features))
        states = self.widen(self.norm(frames)) + self.places.weight + times[:, None]
        states = states.flatten(-3, -2)
        tokens = self.queries.weight.expand(*states.shape[:-2], -1, -1)
        for block in self.blocks:
            tokens = block(tokens, states)
        resampled: Tensor = self.out(tokens)
        return resampled


class ResamplerBlock(nn.Module):
    """Queries look at the states and at each other, then each thinks by itself."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_queries, self.norm_states = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query = nn.Linear(size, size, bias=False)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.merge = nn.Linear(size, size, bias=False)
        self.think = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size)
        )

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        """float[..., Q, H] and float[..., K, H] to float[..., Q, H]."""
        queries = self.norm_queries(tokens)
        seen = torch.cat([self.norm_states(states), queries], dim=-2)
        looked = attend(self.query(queries), self.key_value(seen), num_heads=self.num_heads)
        tokens = tokens + self.merge(looked)
        thought: Tensor = tokens + self.think(tokens)
        return thought


def attend(
    query: Tensor, key_value: Tensor, *, num_heads: int, allowed: Tensor | None = None
) -> Tensor:
    """Attention of float[..., Q, H] over float[..., K, 2*H], keys and values side by side.

    Where ``allowed``, bool[..., heads, Q, K], is given, only what it marks is looked at.
    """
    query, key, value = (
        torch.unflatten(states, -1, (num_heads, -1)).transpose(-3, -2)
        for states in (query, *key_value.chunk(2, dim=-1))
    )
    seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return seen.transpose(-3, -2).flatten(-2)


def _sines(num_frames: int) -> Tensor:
    """float32[T, 2*_TIME_SINES]: where in its medium each frame stands."""
    middles = (torch.arange(num_frames) + 0.5) / num_frames
    angles = middles[:, None] * math.pi * 2.0 ** torch.arange(_TIME_SINES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
