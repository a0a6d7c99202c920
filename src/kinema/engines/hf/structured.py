"""Decoding that can only write JSON of one schema, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from kinema.errors import MissingCapability, ModelError, UsageError

# No white space: a model that may write some can do so for ever.
_COMPACT: Any = {"whitespace_flexible": False}


class Schemas:
    """Grammars of JSON schemas over the tokens of one tokenizer.

    Raises:
        MissingCapability: the tokenizer is none of the fast ones.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, end_ids: Sequence[int]) -> None:
        if not tokenizer.is_fast:
            raise MissingCapability(
                f"{type(tokenizer).__name__} is a slow tokenizer, and schemas need a fast one.",
                hint="Leave --schema out, or use --engine vllm.",
            )
        self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, eos_token=list(end_ids))
        self._end_ids = list(end_ids)
        self._matcher = lru_cache(16)(self._new_matcher)

    def processor(self, schema: str, *, num_rows: int) -> OnlyJson:
        """Holds each of ``num_rows`` answers to a schema, for one call of ``generate``.

        Raises:
            UsageError: the schema has something that no grammar can say.
        """
        first = self._matcher(schema)
        return OnlyJson([first.deep_copy() for _ in range(num_rows)], self._end_ids)

    def _new_matcher(self, schema: str) -> LLMatcher:
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(
                f"The schema cannot be held to: {matcher.get_error().splitlines()[0]}",
                hint="Leave that keyword out; answers are checked against the whole schema anyway.",
            )
        return matcher


class OnlyJson(LogitsProcessor):  # type: ignore[misc]
    """Masks every token that does not continue the row's JSON."""

    def __init__(self, matchers: Sequence[LLMatcher], end_ids: Sequence[int]) -> None:
        self._matchers = matchers
        self._end_ids = list(end_ids)
        self._read: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask float[B, vocab]; B is the number of rows."""
        if self._read is not None:
            for matcher, new in zip(self._matchers, input_ids[:, self._read :], strict=True):
                if not matcher.is_stopped() and not matcher.consume_tokens(new.tolist()):
                    raise ModelError(f"The grammar broke down: {matcher.get_error()}")
        self._read = input_ids.shape[1]
        masked = torch.full_like(scores, -torch.inf)
        for row, matcher in enumerate(self._matchers):
            allowed = self._allowed(matcher, scores.shape[1])
            # Other processors may have forbidden all that fits; the schema goes first.
            kept = scores[row, allowed]
            masked[row, allowed] = kept if kept.isfinite().any() else torch.zeros_like(kept)
        return masked

    def _allowed(self, matcher: LLMatcher, vocab_size: int) -> Tensor:
        """int64[N]: tokens that may come next; only an end when the JSON is whole."""
        if matcher.is_stopped():
            return torch.tensor(self._end_ids)
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        return torch.from_numpy(allowed[allowed < vocab_size])
