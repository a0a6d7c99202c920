"""User text that looks like a control token, kept as text through any processor.

A prompt holds a guard character where the user wrote something like ``<video>`` or
``<|im_end|>``. Processors expand placeholders by searching the text, and tokenizers turn control
strings into control tokens, so both must never see the user's string. The guard becomes one
reserved token; after processing, that token is replaced by the string's plain tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken

from kinema.messages import Prompt
from kinema.models.per_token import is_per_token

RESERVED = "<kinema-literal-\uf8ff>"
"""What stands for a literal until the prompt is tokenised."""


class LiteralTokens:
    """Reserves one token of a tokenizer and swaps it for literals afterwards."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._reserved_id: int | None = None

    def reserve(self, prompt: Prompt) -> str:
        """The prompt's text with its guards written as the reserved token."""
        if prompt.literals and self._reserved_id is None:
            # The id lies behind the vocabulary and never reaches the model.
            token = AddedToken(RESERVED, special=True, normalized=self._is_left_alone())
            self._tokenizer.add_tokens([token], special_tokens=True)
            self._reserved_id = self._tokenizer.convert_tokens_to_ids(RESERVED)
        return prompt.text.replace(Prompt.GUARD, RESERVED)

    def fill(self, inputs: dict[str, Any], literals: tuple[str, ...]) -> dict[str, Any]:
        """Replace each reserved token of ``int64[1, L]`` inputs by its literal's tokens."""
        if not literals:
            return inputs
        ids = inputs["input_ids"][0]
        pieces = [self._plain(literal) for literal in literals]
        guards = (ids == self._reserved_id).nonzero().flatten().tolist()
        for name in [n for n, value in inputs.items() if is_per_token(n, value, len(ids))]:
            row = inputs[name][0]
            # A literal is masked, typed and trained on as the token in its place was.
            same = [
                row[at : at + 1].expand(len(piece), *row.shape[1:])
                for at, piece in zip(guards, pieces, strict=True)
            ]
            inputs[name] = _splice(row, guards, pieces if name == "input_ids" else same)[None]
        return inputs

    def _is_left_alone(self) -> bool:
        """Whether the normalizer gives the token back, so that it may be looked for behind it.

        Then the words on both sides of a literal are one text to it, which begins but once.
        """
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        normalizer = getattr(backend, "normalizer", None)
        return normalizer is not None and normalizer.normalize_str(RESERVED) == RESERVED

    def _plain(self, literal: str) -> torch.Tensor:
        ids = self._tokenizer(literal, add_special_tokens=False, split_special_tokens=True)
        return torch.tensor(ids["input_ids"], dtype=torch.long)


def _splice(row: torch.Tensor, guards: list[int], pieces: list[torch.Tensor]) -> torch.Tensor:
    parts, last = [], 0
    for at, piece in zip(guards, pieces, strict=True):
        parts += [row[last:at], piece.to(row.dtype)]
        last = at + 1
    return torch.cat([*parts, row[last:]])
