"""Between logits and the next token: a check, and draws from a generator of the call's own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from kinema.errors import BrokenLogits

SEEDS = 2**31


class FirstStepIsFinite(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped
    """Refuses the first logits of a call that are NaN or infinite, and looks at no later ones.

    The likeliest token of NaN is token 0, so a broken merge, or weights whose sums float16 cannot
    hold, would answer as if nothing were. Minus infinity is how models forbid a token.
    """

    def __init__(self) -> None:
        self._is_first = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``float[B, V]`` as it came.

        Raises:
            BrokenLogits: a row has none that is a number, or one that is not.
        """
        if self._is_first:
            self._is_first = False
            # The largest is NaN, or infinite, where any is; and where all tokens are forbidden.
            if not bool(scores.amax(-1).isfinite().all()):
                raise BrokenLogits(
                    "The model's logits are no numbers (NaN or infinite).",
                    hint="The weights may be broken, or too large for float16: use --dtype "
                    "bfloat16 or float32, and check how they were merged.",
                )
        return scores


class Draw(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped
    """Draws the next token of each row, and leaves it as the only one that is possible.

    ``generate`` draws from the process's global generator, which every model in the process
    shares: one would change what the other says. From the same seed the draws are the same.

    Args:
        seed: any number; None for a fresh one.
    """

    def __init__(self, seed: int | None) -> None:
        self._seed = secrets.randbelow(SEEDS) if seed is None else seed
        self._generator: torch.Generator | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``float[B, V]``: 0 for the drawn token of a row, minus infinity for all others."""
        if self._generator is None:
            self._generator = torch.Generator(scores.device).manual_seed(self._seed)
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def drawing(sampling: Mapping[str, Any], seed: int | None) -> list[Any]:
    """What transformers would do to logits before it draws, in its order, and then the draw.

    Args:
        sampling: settings by their names in transformers.
        seed: see :class:`Draw`.
    """
    steps: list[Any] = []
    for name, (warper, neutral) in DRAWING.items():
        value = sampling.get(name)
        if value is not None and value != neutral:
            steps.append(warper(value))
    return [*steps, Draw(seed)]


DRAWING: Mapping[str, tuple[type[Any], float | None]] = {
    "temperature": (TemperatureLogitsWarper, 1.0),
    "top_k": (TopKLogitsWarper, 0),
    "top_p": (TopPLogitsWarper, 1.0),
    "min_p": (MinPLogitsWarper, None),
    "typical_p": (TypicalLogitsWarper, 1.0),
}
"""Settings that matter to draws alone: what applies each, and the value that does nothing."""
