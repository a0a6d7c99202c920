"""Which medium belongs to which row of a batch, and putting it there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinema.errors import UsageError
from kinema.models.videolm.fusion import Medium


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


def splice(embeddings: Tensor, visual: Tensor, media: Sequence[Medium]) -> Tensor:
    """Put the media's tokens into float[B, S, H] where bool[B, S] is true, in order."""
    tokens = torch.cat([medium.tokens for medium in media]).to(embeddings)
    return embeddings.masked_scatter(visual.unsqueeze(-1).to(embeddings.device), tokens)


def repeat_media(
    pieces: Sequence[Tensor], rows: Sequence[int], times: int
) -> tuple[Tensor, list[int]]:
    """Media of a batch whose every row is repeated, and the index of each in the old batch."""
    order = []
    for row in sorted(set(rows)):
        order += [i for i, owner in enumerate(rows) if owner == row] * times
    return torch.cat([pieces[i] for i in order]), order
