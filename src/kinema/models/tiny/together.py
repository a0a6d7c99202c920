"""Several prompts at once, each read as far as its next choice in one pass.

What stands at the beginning of all prompts is read once. Rows are left padded, and so is every
later piece: the holes are masked, so a row's keys and values are those it has alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, GenerationConfig

from kinema.models.tiny.constraint import OnlySentencesOf


def decode_together(
    language_model: Any,
    inputs_embeds: Tensor,
    attention_mask: Tensor,
    *,
    constraint: OnlySentencesOf,
    max_new_tokens: int,
    tell: Callable[[list[list[int]]], list[bool]],
) -> list[list[int]]:
    """The likeliest sentences that the constraint allows, a list of token ids a row.

    Args:
        language_model: a causal language model.
        inputs_embeds: float[B, L, hidden], left padded, with what pictures put there.
        attention_mask: int64[B, L].
        constraint: made for these rows.
        max_new_tokens: of each row.
        tell: given what each row says next, nothing where it has ended; says who may stop.
    """
    reader = _Reader(language_model)
    scores = reader.read_prompts(inputs_embeds, attention_mask)
    answers: list[list[int]] = [[] for _ in inputs_embeds]
    active = list(range(len(answers)))
    while active:
        runs = {}
        for row, likely in zip(active, scores, strict=True):
            runs[row] = constraint.next_run(row, answers[row], likely)
            runs[row] = runs[row][: max_new_tokens - len(answers[row])]
            answers[row] = answers[row] + runs[row]
        unwanted = tell([runs.get(row, []) for row in range(len(answers))])
        end = constraint.eos_token_id
        over = {r for r in active if len(answers[r]) >= max_new_tokens or answers[r][-1] == end}
        going = [row for row in active if not unwanted[row] and row not in over]
        reader.keep([active.index(row) for row in going])
        active = going
        if active:
            scores = reader.read([runs[row] for row in active])
    return answers


def likeliest_only(own: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig | None:
    """The settings of a call that wants each row's likeliest answer; None where it wants more."""
    config = copy(options.get("generation_config") or own)
    given = {name: value for name, value in options.items() if name != "generation_config"}
    unused = config.update(**given)
    changed = config.to_diff_dict()
    plain = all(changed[name] in _PLAIN.get(name, (None, False)) for name in changed.keys() - _FREE)
    criteria = options.get("stopping_criteria") or ()
    plain = plain and all(not getattr(one, "reads_tokens", True) for one in criteria)
    return config if plain and config.max_new_tokens and unused.keys() <= _KNOWN else None


_FREE = {
    *("max_new_tokens", "min_new_tokens", "return_dict_in_generate", "transformers_version"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "temperature", "top_k", "top_p"),
}
"""Settings that change no word, or that are honoured."""
_PLAIN = {"do_sample": (None, False), "repetition_penalty": (None, 1.0), "num_beams": (None, 1)}
"""Settings that change words, and the values with which they do not."""
_KNOWN = {"attention_mask", "inputs_embeds", "streamer", "stopping_criteria"}


class _Reader:
    """A language model, and what each row has read."""

    def __init__(self, language_model: Any) -> None:
        self.language_model = language_model
        self._embed = language_model.get_input_embeddings()
        self._cache = DynamicCache(config=language_model.config)
        self._mask = torch.ones(1, 0, dtype=torch.long, device=language_model.device)

    def read_prompts(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Scores of each row's first token, float[B, vocab]."""
        rows = [row[own.bool()] for row, own in zip(embeds, mask, strict=True)]
        shared = _shared(rows)
        if shared:
            self._read(rows[0][None, :shared], mask.new_ones(1, shared))
            self._cache.batch_repeat_interleave(len(rows))
        self._mask = self._mask.repeat(len(rows), 1)
        return self._read(*_left_padded([row[shared:] for row in rows]))

    def read(self, runs: Sequence[Sequence[int]]) -> Tensor:
        """Scores of what follows each row's run of token ids."""
        device = self.language_model.device
        pieces = [self._embed(torch.tensor(run, device=device)) for run in runs]
        return self._read(*_left_padded(pieces))

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, which are named by their place."""
        if len(rows) < len(self._mask):
            chosen = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
            self._mask = self._mask[chosen]
            self._cache.batch_select_indices(chosen)

    def _read(self, embeds: Tensor, mask: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, mask], dim=1)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -mask.shape[1] :]
        output = self.language_model(
            inputs_embeds=embeds,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = output.logits[:, -1]
        return scores


def _shared(rows: Sequence[Tensor]) -> int:
    """Places at the beginning in which all rows hold the same; the last place is never one."""
    most = min(map(len, rows)) - 1
    heads = torch.stack([row[:most] for row in rows])
    same = (heads == heads[:1]).all(-1).all(0).tolist()
    return sum(1 for _ in takewhile(bool, same))


def _left_padded(pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """float[N, hidden] pieces as float[B, W, hidden], and int64[B, W] that says what is real."""
    embeds = pad_sequence(list(pieces), batch_first=True, padding_side="left")
    real = [torch.ones(len(piece), dtype=torch.long, device=piece.device) for piece in pieces]
    return embeds, pad_sequence(real, batch_first=True, padding_side="left")
