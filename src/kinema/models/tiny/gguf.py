"""Reads SmolLM2 out of a GGUF file: weights, configuration and tokenizer.

Format: the GGUF specification of ggml. Quantised blocks are opened by the ``gguf`` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

_CONTROL = 3
"""GGUF's token type of control tokens."""
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class SmolLM2File:
    """One GGUF file of the llama architecture with a byte-level BPE tokenizer."""

    def __init__(self, path: Path) -> None:
        self._reader = GGUFReader(path)

    def _field(self, name: str) -> Any:
        return self._reader.fields[name].contents()

    def config(self, *, vocab_size: int) -> LlamaConfig:
        """The language model's shape, with room for ``vocab_size`` tokens."""
        llama = {key: self._field(f"llama.{key}") for key in _SHAPE}
        return LlamaConfig(
            vocab_size=vocab_size,
            tie_word_embeddings=True,
            bos_token_id=self._field("tokenizer.ggml.bos_token_id"),
            eos_token_id=self._field("tokenizer.ggml.eos_token_id"),
            pad_token_id=self._field("tokenizer.ggml.padding_token_id"),
            rope_parameters={"rope_type": "default", "rope_theta": llama.pop("rope.freq_base")},
            **{_SHAPE[key]: value for key, value in llama.items()},
        )

    def weights(self, *, vocab_size: int) -> dict[str, Tensor]:
        """float32 tensors under the names of ``LlamaForCausalLM``; new tokens embed to zero.

        The head is not among them: it is tied to the embeddings.
        """
        heads = {
            "attn_q": self._field("llama.attention.head_count"),
            "attn_k": self._field("llama.attention.head_count_kv"),
        }
        weights = {}
        for tensor in self._reader.tensors:
            values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
            part = tensor.name.split(".")[-2]
            if part in heads:
                values = _half_rotary(values, heads[part])
            weights[_name(tensor.name)] = values
        embeddings = weights["model.embed_tokens.weight"]
        new = embeddings.new_zeros(vocab_size - len(embeddings), embeddings.shape[1])
        weights["model.embed_tokens.weight"] = torch.cat([embeddings, new])
        return weights

    def tokenizer(self, *, extra: tuple[str, ...]) -> PreTrainedTokenizerFast:
        """The file's tokenizer with ``extra`` control tokens after its own."""
        tokens = self._field("tokenizer.ggml.tokens")
        merges = [tuple(m.split(" ")) for m in self._field("tokenizer.ggml.merges")]
        bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
        tokenizer = Tokenizer(bpe)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        types = np.asarray(self._field("tokenizer.ggml.token_type"))
        control = [tokens[i] for i in np.flatnonzero(types == _CONTROL)]
        tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in (*control, *extra)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=tokens[self._field("tokenizer.ggml.bos_token_id")],
            eos_token=tokens[self._field("tokenizer.ggml.eos_token_id")],
            pad_token=tokens[self._field("tokenizer.ggml.padding_token_id")],
            model_max_length=self._field("llama.context_length"),
            clean_up_tokenization_spaces=False,
            padding_side="left",
        )


_SHAPE = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
"""GGUF's keys under ``llama.`` and LlamaConfig's names."""


def _name(gguf: str) -> str:
    parts = gguf.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    return f"{_TOP[parts[0]]}.{parts[1]}"


def _half_rotary(weight: Tensor, num_heads: int) -> Tensor:
    """From GGUF's row order, rotary pairs side by side, to transformers', pairs half a head apart.

    Args:
        weight: float32[num_heads * head, hidden].
        num_heads: heads of this projection.
    """
    pairs = weight.view(num_heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)
