"""Fusion beyond the splice: what every decoder layer hears of the media.

A fusion has two halves. ``context`` turns the media of a batch into one value a row, once, before
the first layer; ``after_layer`` lets layer i use it, at every position and every decoding step.
Both fusions of this file are off where a row has no media.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from kinema.errors import UsageError
from kinema.models.videolm.resampler import attend


class Medium(NamedTuple):
    """One encoded medium and the row of the batch that it belongs to."""

    row: int
    features: Tensor
    """float[N, L, D] pooled features, positions added."""
    tokens: Tensor
    """float[M, H] projected features, as spliced."""


def media_rows(visual: Tensor, tokens: Sequence[int]) -> list[int]:
    """The row of each medium, given bool[B, S] places and each medium's token count.

    Raises:
        UsageError: places and tokens differ in number, or a medium would straddle two rows.
    """
    places = [int(count) for count in visual.sum(dim=1)]
    rows = []
    row = 0
    for count in tokens:
        while row < len(places) and places[row] == 0:
            row += 1
        if row == len(places) or places[row] < count:
            _refuse(visual, tokens)
        places[row] -= count
        rows.append(row)
    if any(places):
        _refuse(visual, tokens)
    return rows


def _refuse(visual: Tensor, tokens: Sequence[int]) -> None:
    raise UsageError(
        f"The prompts hold {visual.sum(dim=1).tolist()} visual tokens by row and the media give "
        f"{list(tokens)}.",
        hint="Was the prompt cut? Use fewer frames, or a model with a longer context.",
    )


class VisualContext(NamedTuple):
    """What the layers are given for a batch."""

    states: Tensor
    """float[B, ..., H], zero where a row has no media."""
    mask: Tensor
    """bool[B, K], true where ``states`` holds something."""


class LayerFusion(Protocol):
    """A fusion that acts between decoder layers."""

    def context(self, media: Sequence[Medium], batch_size: int) -> VisualContext:
        """One value a row."""

    def after_layer(self, index: int, hidden: Tensor, context: VisualContext) -> Tensor:
        """float[B, S, H] after decoder layer ``index`` to float[B, S, H]."""


class LayerBias(nn.Module):
    """Add one vector a row after every decoder layer.

    Tower layer k of the video, reduced over time by a linear map, is projected and scaled:
    ``hidden + scale * P_k(R_k(features[:, k]))`` with k = min(layer, L - 1). Several videos in a
    row are averaged. The formula is that of the Breakfast fork of Video-ChatGPT, which
    broadcast it wrongly for batches above one.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        layers, width = len(config.select_layers), config.vision_hidden_size
        self.scale = config.layer_bias_scale
        self.num_frames = config.max_frames
        self.reducers = nn.ModuleList(nn.Linear(config.max_frames, 1) for _ in range(layers))
        self.projectors = nn.ModuleList(
            nn.Linear(width, config.text_config.hidden_size) for _ in range(layers)
        )

    def context(self, media: Sequence[Medium], batch_size: int) -> VisualContext:
        """float[B, L, H], scaled.

        Raises:
            UsageError: a medium has not exactly ``max_frames`` frames.
        """
        biases = torch.stack([self._bias(medium.features) for medium in media])  # (M, L, H)
        rows = torch.tensor([medium.row for medium in media], device=biases.device)
        counts = torch.bincount(rows, minlength=batch_size)
        sums = biases.new_zeros(batch_size, *biases.shape[1:]).index_add(0, rows, biases)
        states = self.scale * sums / counts.clamp(min=1)[:, None, None]
        return VisualContext(states, counts[:, None] > 0)

    def after_layer(self, index: int, hidden: Tensor, context: VisualContext) -> Tensor:
        """Add the row's vector of this layer to every position."""
        states = context.states.to(hidden)
        return hidden + states[:, min(index, states.shape[1] - 1), None]

    def _bias(self, features: Tensor) -> Tensor:
        if len(features) != self.num_frames:
            raise UsageError(
                f"{len(features)} frames were given and fusion=layer_bias was trained on exactly "
                f"{self.num_frames}.",
                hint=f"Use --num-frames {self.num_frames}.",
            )
        layers = zip(self.reducers, self.projectors, features.unbind(1), strict=True)
        return torch.stack([p(r(states.T).squeeze(1)) for r, p, states in layers])


class CrossAttention(nn.Module):
    """Let positions look at the row's visual tokens after every n-th decoder layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.every = config.cross_attention_every
        num_blocks = config.text_config.num_hidden_layers // self.every
        size, heads = config.text_config.hidden_size, config.cross_attention_heads
        if size % heads:
            raise UsageError(
                f"cross_attention_heads is {heads} and the hidden size is {size}.",
                hint="Choose a number of heads that divides it.",
            )
        self.blocks = nn.ModuleList(CrossAttentionBlock(size, heads) for _ in range(num_blocks))

    def context(self, media: Sequence[Medium], batch_size: int) -> VisualContext:
        """float[B, K, H], the tokens of each row side by side, padded with zeros."""
        by_row = [[m.tokens for m in media if m.row == row] for row in range(batch_size)]
        empty = media[0].tokens[:0]
        rows = [torch.cat(tokens) if tokens else empty for tokens in by_row]
        states = pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=states.device)
        positions = torch.arange(states.shape[1], device=states.device)
        return VisualContext(states, positions < lengths[:, None])

    def after_layer(self, index: int, hidden: Tensor, context: VisualContext) -> Tensor:
        """Attend where a block follows this layer."""
        if (index + 1) % self.every:
            return hidden
        attended: Tensor = self.blocks[index // self.every](hidden, context)
        return attended


class CrossAttentionBlock(nn.Module):
    """``hidden + tanh(gate) * attention(norm(hidden), context)``, the gate starting at zero.

    So a model that gets these blocks answers exactly as before until they are trained
    (Alayrac et al. 2022, section 2.2).
    """

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size, bias=False)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor, context: VisualContext) -> Tensor:
        """float[B, S, H] and float[B, K, H] to float[B, S, H]."""
        states, mask = context.states.to(hidden), context.mask.to(hidden.device)
        seen = mask.any(dim=1)
        # A row without media may look anywhere; what it sees is thrown away below.
        allowed = (mask | ~seen[:, None])[:, None, None]
        query, key_value = self.query(self.norm(hidden)), self.key_value(states)
        attended = attend(query, key_value, num_heads=self.num_heads, allowed=allowed)
        update: Tensor = self.out(attended) * seen[:, None, None]
        return hidden + torch.tanh(self.gate) * update


FUSIONS: dict[str, Callable[[Any], nn.Module | None]] = {
    "splice": lambda config: None,
    "layer_bias": LayerBias,
    "cross_attention": CrossAttention,
}
"""Choices of ``config.fusion``; each makes a :class:`LayerFusion` of a ``VideoLMConfig``."""
