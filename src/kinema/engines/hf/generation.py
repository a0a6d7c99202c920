"""Settings of ``generate``, and what is read out of its output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import CompileConfig, GenerationConfig

from kinema.engines.hf.logits import DRAWING
from kinema.errors import MissingCapability
from kinema.messages import SamplingParams, TokenLogprob

_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
_RECOMMENDED = (
    *("min_p", "typical_p", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias"),
    *("suppress_tokens", "begin_suppress_tokens", "exponential_decay_length_penalty"),
)
"""What else a checkpoint may recommend and is taken with ``--generation-config``."""
_NO_MATTER = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("transformers_version", "_from_model_config", "do_sample", "use_cache", "max_length"),
    *("max_new_tokens", "min_length", "min_new_tokens", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("cache_implementation", "cache_config", "compile_config", "disable_compile"),
}
"""Stop tokens, lengths and the like, which the engine or the caller says."""


def stop_tokens(own: GenerationConfig) -> GenerationConfig:
    """A checkpoint's ``generation_config.json`` with nothing in it but its stop tokens.

    ``generate`` fills in from the model's own whatever a call leaves open.
    """
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(own, name) for name in names})


def recommended(own: GenerationConfig) -> dict[str, Any]:
    """The sampling that a checkpoint's ``generation_config.json`` recommends, by field.

    Raises:
        MissingCapability: it recommends something that is not done here, such as beams.
    """
    said = {name: value for name, value in own.to_diff_dict().items() if name not in _NO_MATTER}
    if said.get("num_beams") == 1:
        del said["num_beams"]
    if unknown := sorted(said.keys() - {*_SAMPLING, *_RECOMMENDED}):
        raise MissingCapability(
            f"generation_config.json says {unknown[0]} = {said[unknown[0]]!r}, which is not done "
            "here.",
            hint="Leave --generation-config out, and say the sampling yourself.",
        )
    if not own.do_sample:
        return {name: value for name, value in said.items() if name not in DRAWING}
    return {"temperature": 1.0} | said


def sampling_of(params: SamplingParams, inherited: dict[str, Any] | None) -> dict[str, Any]:
    """How tokens are picked: without a temperature, the likeliest is.

    Args:
        params: what the caller wants.
        inherited: what the checkpoint recommends; values of ``params`` that are no defaults win.
    """
    plain = SamplingParams()
    said = {
        name: getattr(params, name)
        for name in _SAMPLING
        if inherited is None or getattr(params, name) != getattr(plain, name)
    }
    sampling = (inherited or {}) | said
    if sampling.get("temperature"):
        return sampling
    return {name: value for name, value in sampling.items() if name not in DRAWING}


def generation_config(
    stops: GenerationConfig, params: SamplingParams, sampling: Mapping[str, Any], *, compiled: bool
) -> GenerationConfig:
    """The checkpoint's stop tokens with the caller's sampling, and nothing inherited in silence.

    Tokens are drawn by :mod:`kinema.engines.hf.logits`, and not by ``generate``.
    """
    end, pad = stops.eos_token_id, stops.pad_token_id
    if pad is None:
        pad = end[0] if isinstance(end, list) else end
    more: dict[str, Any] = {}
    if compiled:  # a cache of fixed size and one compiled decoding step, on a CPU too
        more = {"cache_implementation": "static", "compile_config": CompileConfig()}
        more["compile_config"]._compile_all_devices = True
    return GenerationConfig(
        bos_token_id=stops.bos_token_id,
        eos_token_id=end,
        pad_token_id=pad,
        max_new_tokens=params.max_new_tokens,
        min_new_tokens=params.min_new_tokens,
        do_sample=False,
        **{name: value for name, value in sampling.items() if name not in DRAWING},
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
