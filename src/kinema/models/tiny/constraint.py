"""Decoding that can only write one of the sentences it was given.

A :data:`Grammar` is a row of choices. The language model picks at each choice by its own
likelihoods; everything else is impossible. So the wording is the model's and the content is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor
from transformers.generation.candidate_generator import CandidateGenerator

Grammar = tuple[tuple[str, ...], ...]
"""Choices in order. Within one, no alternative is the beginning of another."""

Trie = dict[int, Any]


def _trie(sequences: Sequence[Sequence[int]]) -> Trie:
    root: Trie = {}
    for sequence in sequences:
        node = root
        for token in sequence:
            node = node.setdefault(token, {})
    return root


class OnlySentencesOf(LogitsProcessor):  # type: ignore[misc]
    """Masks every token that does not continue the row's grammar.

    Args:
        grammars: one a batch row.
        encode: text to token ids, no special tokens.
        prompt_length: tokens before the first generated one.
        eos_token_id: what must follow a finished sentence.
    """

    def __init__(
        self,
        grammars: Sequence[Grammar],
        *,
        encode: Callable[[str], list[int]],
        prompt_length: int,
        eos_token_id: int,
    ) -> None:
        self._tries = [[_trie([encode(s) for s in choice]) for choice in g] for g in grammars]
        self.prompt_length = prompt_length
        self.eos_token_id = eos_token_id

    def allowed(self, row: int, generated: Sequence[int]) -> list[int]:
        """The tokens that may follow ``generated`` in this row."""
        choices = iter(self._tries[row])
        node = next(choices, {})
        for token in generated:
            node = node.get(token) or next(choices, {})
        return list(node) or [self.eos_token_id]

    def forced(self, generated: Sequence[int], *, row: int = 0) -> list[int]:
        """What must follow ``generated`` in a row, up to the next choice or the end."""
        run: list[int] = []
        end = [self.eos_token_id]
        while len(allowed := self.allowed(row, [*generated, *run])) == 1 and allowed != end:
            run += allowed
        return run

    def next_run(self, row: int, generated: Sequence[int], scores: Tensor) -> list[int]:
        """The likeliest token that may follow, by float[vocab], and what must follow that one."""
        allowed = self.allowed(row, generated)
        run = [allowed[int(scores[allowed].argmax())]]
        if run != [self.eos_token_id]:
            run += self.forced([*generated, *run], row=row)
        over = self.allowed(row, [*generated, *run]) == [self.eos_token_id]
        return [*run, self.eos_token_id] if over and run[-1] != self.eos_token_id else run

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask float[B, vocab]; B may hold several beams or samples a row."""
        copies = len(input_ids) // len(self._tries)
        masked = torch.full_like(scores, -torch.inf)
        for i, ids in enumerate(input_ids[:, self.prompt_length :].tolist()):
            allowed = self.allowed(i // copies, ids)
            # Other processors may have forbidden all that is true; truth goes first.
            kept = scores[i, allowed]
            masked[i, allowed] = kept.where(kept.isfinite(), torch.zeros_like(kept))
        return masked


class ForcedTokens(CandidateGenerator):  # type: ignore[misc]
    """Drafts, for assisted decoding, the tokens between two choices.

    There is nothing to decide in them, so the model reads a whole run in one forward pass
    instead of one pass a token. The answer is the same.
    """

    def __init__(self, constraint: OnlySentencesOf) -> None:
        self._constraint = constraint

    def get_candidates(self, input_ids: Tensor, **_: Any) -> tuple[Tensor, None]:
        """int64[1, L] with the forced tokens behind it; no draft logits."""
        generated = input_ids[0, self._constraint.prompt_length :].tolist()
        if not generated:  # the first pass takes embeddings, which hold the prompt alone
            return input_ids, None
        run = input_ids.new_tensor([self._constraint.forced(generated)])
        return torch.cat([input_ids, run.long()], dim=1), None
