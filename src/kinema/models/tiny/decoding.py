"""A decoding loop that runs the language model only where it has something to decide.

Between two choices of a grammar every token is forced. Such tokens are written at once and reach
the model together with the next question it is asked, so an answer of eighty tokens costs a
handful of forward passes. The tokens are those of the plain loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.generation import GenerateDecoderOnlyOutput

from kinema.models.tiny.constraint import OnlySentencesOf


def write_ahead(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode one row, greedily or by sampling; a ``custom_generate`` of transformers."""
    constraint = next(p for p in logits_processor if isinstance(p, OnlySentencesOf))
    reader = _Reader(model, input_ids, **model_kwargs)
    written = input_ids
    while True:
        generated = written[0, input_ids.shape[1] :].tolist()
        allowed = constraint.allowed(0, generated)
        if len(allowed) == 1:
            token = torch.tensor([allowed], device=written.device)
        else:
            scores = logits_processor(written, reader.logits(written))
            token = _pick(scores, sample=generation_config.do_sample)
        written = torch.cat([written, token], dim=-1)
        if streamer is not None:
            streamer.put(token[0].cpu())
        if bool(stopping_criteria(written, None).all()):
            break
    if streamer is not None:
        streamer.end()
    if not generation_config.return_dict_in_generate:
        return written
    return GenerateDecoderOnlyOutput(sequences=written, past_key_values=reader.cache)


def _pick(scores: Tensor, *, sample: bool) -> Tensor:
    if sample:
        return torch.multinomial(scores.softmax(-1), num_samples=1)
    return scores.argmax(-1, keepdim=True)


class _Reader:
    """Feeds the model what it has not read yet, and gives the logits after the last token."""

    def __init__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        attention_mask: Tensor,
        past_key_values: Any,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> None:
        self.cache = past_key_values
        self._language_model = model.language_model
        self._mask = attention_mask
        self._num_read = past_key_values.get_seq_length()
        self._prompt_length = input_ids.shape[1]
        self._prompt = (
            {"input_ids": input_ids[:, self._num_read :]}
            if inputs_embeds is None
            else {"inputs_embeds": inputs_embeds[:, self._num_read :]}
        )

    def logits(self, written: Tensor) -> Tensor:
        """float32[1, vocab] after all of ``written``, int64[1, L]."""
        if self._num_read < self._prompt_length:
            logits = self._read(self._prompt, self._prompt_length)
        if self._num_read < written.shape[1]:
            unread = written[:, self._num_read :]
            logits = self._read({"input_ids": unread}, written.shape[1])
        return logits

    def _read(self, inputs: dict[str, Tensor], length: int) -> Tensor:
        mask = torch.nn.functional.pad(self._mask, (0, length - self._mask.shape[1]), value=1)
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0)[:, self._num_read : length]
        output = self._language_model(
            **inputs,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._num_read = length
        return output.logits[:, -1].float()  # type: ignore[no-any-return]
