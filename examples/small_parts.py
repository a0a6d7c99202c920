"""A small random vision tower and language model, to try training before downloading 14 GB.

    python examples/small_parts.py FOLDER

writes ``FOLDER/clip`` and ``FOLDER/llama``: real classes, random weights. The language model reads
bytes, so what it says after a little training is made of letters and not yet of words.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SIDE = 56
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def make_tower(folder: Path, *, side: int = SIDE) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    config = CLIPVisionConfig(**sizes, num_attention_heads=4, image_size=side, patch_size=14)
    CLIPVisionModel(config).save_pretrained(folder)
    crop = {"height": side, "width": side}
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size=crop).save_pretrained(folder)


def byte_tokenizer(*marks: str) -> PreTrainedTokenizerFast:
    """Every byte is a token, so any text survives; special tokens and ``marks`` come first."""
    letters = [*SPECIAL.values(), *marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def make_language_model(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
    config = LlamaConfig(
        **sizes,
        vocab_size=len(tokenizer),
        num_attention_heads=4,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    torch.manual_seed(0)
    make_tower(Path(sys.argv[1]) / "clip")
    make_language_model(Path(sys.argv[1]) / "llama")
