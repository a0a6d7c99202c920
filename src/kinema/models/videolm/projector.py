"""Projectors: features of the tower's width to embeddings of the language model's width.

Parameter names inside a projector are those of NeVA and LLaVA files (``0``/``2`` of an MLP,
``1``/``2``/``4`` of mlp_downsample), so that importing one is renaming a prefix.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from kinema.errors import UnknownName
from kinema.models.videolm.layout import TokenLayout
from kinema.models.videolm.resampler import Resampler

_MLP = re.compile(r"mlp([1-9]\d*)x_gelu")
_KNOWN = ("identity", "linear", "mlp2x_gelu", "mlp_downsample", "resampler")


def check_projector(name: str) -> None:
    """Refuse a projector that does not exist."""
    if name not in _KNOWN and not _MLP.fullmatch(name):
        raise UnknownName("projector", name, _KNOWN)


def build_projector(name: str, *, in_size: int, out_size: int, layout: TokenLayout) -> nn.Module:
    """A projector with random weights, for features and tokens as ``layout`` counts them."""
    check_projector(name)
    if name == "identity":
        return nn.Identity()
    if name == "linear":
        return nn.Linear(in_size, out_size)
    if name == "mlp_downsample":
        return nn.Sequential(
            FoldPatches(layout.frame_grid),
            nn.LayerNorm(4 * in_size),
            nn.Linear(4 * in_size, out_size),
            nn.GELU(),
            nn.Linear(out_size, out_size),
        )
    if name == "resampler":
        return Resampler(
            in_size=in_size,
            out_size=out_size,
            num_queries=layout.num_queries,
            num_places=layout.feature_tokens(1),
        )
    layers: list[nn.Module] = [nn.Linear(in_size, out_size)]
    for _ in range(int(name[3:-6]) - 1):  # mlp<N>x_gelu
        layers += [nn.GELU(), nn.Linear(out_size, out_size)]
    return nn.Sequential(*layers)


class FoldPatches(nn.Module):
    """Fold each 2×2 square of a frame's patches into one row of four times the width.

    Odd sides get a zero row or column. Squares are read column by column, inside a square the
    patches go row by row: the order of VILA's and NeVA's ``mlp_downsample``.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, features: Tensor) -> Tensor:
        """float[F*rows*columns, D] to float[F*ceil(rows/2)*ceil(columns/2), 4*D]."""
        rows, columns = self.grid
        frames = torch.unflatten(features, 0, (-1, rows, columns))  # (F, rows, columns, D)
        frames = nn.functional.pad(frames, (0, 0, 0, columns % 2, 0, rows % 2))
        squares = torch.unflatten(torch.unflatten(frames, 2, (-1, 2)), 1, (-1, 2))
        # (F, r, 2, c, 2, D)
        squares = squares.permute(0, 3, 1, 2, 4, 5)  # (F, c, r, 2, 2, D)
        return torch.flatten(squares, 3).flatten(0, 2)
