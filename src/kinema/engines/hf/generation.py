"""Settings of ``generate``, and what is read out of its output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig

from kinema.messages import SamplingParams, TokenLogprob


def generation_config(
    own: GenerationConfig, params: SamplingParams, *, compiled: bool
) -> GenerationConfig:
    """The checkpoint's stop tokens with the caller's sampling, and nothing inherited in silence."""
    end, pad = own.eos_token_id, own.pad_token_id
    if pad is None:
        pad = end[0] if isinstance(end, list) else end
    more: dict[str, Any] = {}
    if compiled:  # a cache of fixed size and one compiled decoding step, on a CPU too
        more = {"cache_implementation": "static", "compile_config": CompileConfig()}
        more["compile_config"]._compile_all_devices = True
    random = {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k}
    return GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=end,
        pad_token_id=pad,
        max_new_tokens=params.max_new_tokens,
        min_new_tokens=params.min_new_tokens,
        repetition_penalty=params.repetition_penalty,
        do_sample=params.temperature > 0,
        **(random if params.temperature > 0 else {}),
        **more,
        return_dict_in_generate=True,
        output_logits=params.logprobs is not None,
    )


def token_logprobs(
    logits: tuple[torch.Tensor, ...], row: int, ids: list[int], alternatives: int, tokenizer: Any
) -> tuple[TokenLogprob, ...]:
    """Log-probability of each id of a row, from ``float[B, V]`` logits of each step."""
    steps = [step[row].float().log_softmax(-1) for step in logits[: len(ids)]]
    return tuple(
        TokenLogprob(
            tokenizer.decode([token]),
            float(step[token]),
            tuple(_likeliest(step, alternatives, tokenizer)),
        )
        for token, step in zip(ids, steps, strict=True)
    )


def _likeliest(step: torch.Tensor, count: int, tokenizer: Any) -> Iterator[tuple[str, float]]:
    values, tokens = step.topk(count)
    for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
        yield tokenizer.decode([token]), value


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Makes sampling repeatable without touching the caller's random state."""
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield
