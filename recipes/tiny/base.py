"""Joins a vision tower and a language model to a VideoLM that nobody trained yet.

    python recipes/tiny/base.py FOLDER
    python recipes/tiny/base.py FOLDER --language-model small

EfficientNet-Lite0, which the built-in spotter brings, and SmolLM2-135M-Instruct from the model hub;
between them a projector of random weights. ``small`` is a language model of random weights instead:
it learns next to nothing and needs no hub. A video becomes four frames of 3×3 rows of features, and
those a few tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from art import COLOURS, SHAPES
from kinema.families.hub import download
from kinema.families.templates import TEMPLATES
from kinema.models.importers.fresh import join
from kinema.models.importers.towers import EFFICIENTNET_LITE0
from scenes import DIRECTIONS
from topics import NUM_TOKENS
from words import NUMBERS

GRID, NUM_FRAMES = 3, 4
CHATML = TEMPLATES["yi_34b"]
"""SmolLM2 was tuned with the same marks."""
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL = "small"
_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_base(folder: Path, language_model: str = SMOLLM2) -> Path:
    """Write the model: ``kinema features --tower`` and ``kinema train --model`` take the folder.

    Args:
        folder: to write it into.
        language_model: a folder, a name on the model hub, or ``small``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if language_model == SMALL:
            language = write_small_language_model(Path(scratch))
        else:
            given = Path(language_model)
            language = given if given.is_dir() else download(language_model)
        joined = join(
            language,
            EFFICIENTNET_LITE0,
            template=CHATML.name,
            fit="stretch",
            pooling="grid",
            pool_grid=GRID,
            projector="resampler",
            num_queries=NUM_TOKENS,
            media_wrap="none",
            kinema_sampling={"num_frames": NUM_FRAMES},
        )
        return joined.save(folder, chat_template=CHATML.jinja, stop=CHATML.stop)


def write_small_language_model(folder: Path) -> Path:
    """A LLaMA of two layers with random weights, and a tokenizer that knows the scenes' words."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteDecoder()
    trainer = BpeTrainer(
        vocab_size=1024,
        special_tokens=_MARKS,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f" {word}" for word in (*COLOURS, *SHAPES, *NUMBERS, *DIRECTIONS)]
    tokenizer.train_from_iterator([*words, *words], trainer)
    end, _, stop = _MARKS
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=stop, pad_token=stop
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language-model", default=SMOLLM2, help="A folder, a name, or small.")
    options = parser.parse_args()
    make_base(options.folder, options.language_model)
