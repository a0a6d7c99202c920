"""Sentencepiece models, and Llama 2 as it is released, written from the formats' descriptions.

Sentencepiece's own trainer makes the models.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from support.videolm import TEXT

EXTRA_TOKENS = tuple(f"<extra_id_{i}>" for i in range(8))


_CORPUS = """\
A chat between a curious user and an artificial intelligence assistant.
The assistant gives helpful, detailed, and polite answers to the user's questions.
You are a helpful language and vision assistant. You are able to understand the visual content
that the user provides, and assist the user with a variety of tasks using natural language.
USER: Can you describe the scene? ASSISTANT: Hand with a robot arm.
[INST] <<SYS>> <</SYS>> What happens in the video? [/INST] A train passes the station.
System User Assistant quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4
coherence:4,complexity:4,verbosity:4
Describe this clip in detail.   def main():    return 'four   spaces'
"""


def train_sentencepiece(vocab_size: int = 420, *, kind: str = "bpe") -> bytes:
    """A sentencepiece model with the settings of Llama 2's: no pad token, bytes as fallback."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS.splitlines() * 20),
        model_writer=written,
        model_type=kind,
        vocab_size=vocab_size,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        byte_fallback=True,
        unk_surface=" ⁇ ",
        minloglevel=2,
    )
    return written.getvalue()


def with_pieces(model: bytes, tokens: Sequence[str] = EXTRA_TOKENS) -> bytes:
    """A sentencepiece model with user-defined pieces appended, as NeMo's script appends them."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for token in tokens:
        proto.pieces.add(piece=token, score=0.0, type=4)
    return proto.SerializeToString()


def count_pieces(model: bytes) -> int:
    """The size of a sentencepiece model's vocabulary."""
    import sentencepiece

    return int(sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size())


def make_llama(vocab_size: int, *, seed: int = 1, **changes: Any) -> LlamaForCausalLM:
    """A language model of random weights that are far enough from zero to tell tokens apart."""
    torch.manual_seed(seed)
    shape = TEXT | {"initializer_range": 0.2} | changes
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **shape)).eval()


def write_llama_2(folder: Path, model: bytes, *, seed: int = 1) -> LlamaForCausalLM:
    """Llama 2 as Meta's own folders on the hub are: ``tokenizer.model``, and no pad token."""
    llama = make_llama(count_pieces(model), seed=seed)
    llama.half().save_pretrained(folder, max_shard_size="200KB")
    (folder / "tokenizer.model").write_bytes(model)
    mark = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False}
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": None,
        "tokenizer_class": "LlamaTokenizer",
    }
    settings |= {name: mark | {"content": text} for name, text in marks.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return llama.float()
