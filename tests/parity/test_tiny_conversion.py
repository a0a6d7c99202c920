"""Our GGUF reading against transformers', bit for bit."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from kinema.models.tiny import build as building
from kinema.models.tiny.gguf import SmolLM2File

TEXTS = (
    "Hello world 123, it's 4.5s!",
    "<|im_start|>user\nWhat’s up 😀 \n\n  x<|im_end|>",
    "def f(x):\n    return x+1  # 12:30",
)


@pytest.fixture(scope="module")
def gguf() -> Path:
    return building._source(*building._LANGUAGE)


@pytest.mark.slow
def test_weights_equal_those_that_transformers_reads(gguf):
    logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).state_dict()
    logging.enable_progress_bar()
    ours = SmolLM2File(gguf).weights(vocab_size=49154)
    assert ours.keys() == theirs.keys() - {"lm_head.weight"}
    for name, weight in ours.items():
        assert torch.equal(weight[: len(theirs[name])], theirs[name]), name


@pytest.mark.slow
def test_text_becomes_the_tokens_that_transformers_reads(gguf):
    theirs = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    ours = SmolLM2File(gguf).tokenizer(extra=("<image>", "<video>"))
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False)
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == text
