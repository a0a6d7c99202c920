"""Sentencepiece models, and Llama 2 as it is released, written from the formats' descriptions.

Sentencepiece's own trainer makes the models.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
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


def rounded(llama: LlamaForCausalLM, dtype: torch.dtype) -> LlamaForCausalLM:
    """The model in float32, with weights that survive another number format."""
    llama.load_state_dict({name: t.to(dtype) for name, t in llama.state_dict().items()})
    return llama


def write_llama_2(folder: Path, model: bytes, *, seed: int = 1) -> LlamaForCausalLM:
    """Llama 2 as Meta's own folders on the hub are: ``tokenizer.model``, and no pad token."""
    llama = rounded(make_llama(count_pieces(model), seed=seed), torch.float16)
    deepcopy(llama).half().save_pretrained(folder, max_shard_size="200KB")
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
    return llama


LLAMA_3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 8)),
)
"""In the order of Llama 3's ids."""


def write_llama_3(folder: Path, *, seed: int = 3) -> tuple[LlamaForCausalLM, Tokenizer]:
    """Llama 3 as released: ``tokenizer.json`` with its marks behind the words, and no pad token."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    tokenizer.add_special_tokens(list(LLAMA_3_TOKENS))
    wide = make_llama(
        tokenizer.get_vocab_size(),
        seed=seed,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    llama = rounded(wide, torch.bfloat16)
    deepcopy(llama).bfloat16().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return llama, tokenizer


def grown(llama: LlamaForCausalLM, rows: int) -> LlamaForCausalLM:
    """A language model whose new rows are the mean of the old ones."""
    mean = {
        name: torch.cat([tensor, tensor.mean(0, keepdim=True).expand(rows - len(tensor), -1)])
        for name, tensor in llama.state_dict().items()
        if name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    larger = make_llama(rows)
    larger.load_state_dict(llama.state_dict() | mean)
    return larger
