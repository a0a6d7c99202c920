"""Answers read off the nearest words, with hand-made words and tokens."""

import pytest
import torch
from torch import nn

from align import Words, align
from art import COLOURS, SHAPES
from nearest import READERS

PHRASES = ("banana", "bento box", *(f"{c} {s}" for c in COLOURS for s in SHAPES))
WORDS = Words(PHRASES, torch.eye(len(PHRASES)), torch.full((len(PHRASES),), 0.5))


def clip(*shown):
    """One frame a phrase: the first of two tokens points at it, the other half as long."""
    tokens = torch.zeros(len(shown), 2, len(PHRASES))
    for frame, phrase in enumerate(shown):
        tokens[frame, 0, PHRASES.index(phrase)] = 1.0
        tokens[frame, 1] = 0.01
    return WORDS.logits(tokens + WORDS.middle)


@pytest.mark.parametrize(
    ("skill", "shown", "question", "answer"),
    [
        ("naming", ("banana", "banana"), "What is this?", "banana"),
        ("naming", ("bento box", "bento box"), "What do you see?", "bento box"),
        ("colour", ("red star", "red star"), "What colour is the star?", "red"),
        ("first", ("banana", "bento box"), "What was seen first, bento box or banana?", "banana"),
        (
            "first",
            ("bento box", "banana"),
            "What was seen first, bento box or banana?",
            "bento box",
        ),
        ("first", ("banana", "bento box"), "What was seen first, star or banana?", "banana"),
        ("first", ("bento box", "banana"), "What was seen first, star or banana?", "star"),
        ("presence", ("banana", "banana"), "Is there a banana?", "yes"),
        ("presence", ("banana", "banana"), "Is there a bento box?", "no"),
    ],
)
def test_the_nearest_words_answer(skill, shown, question, answer):
    assert READERS[skill](WORDS, clip(*shown), question) == answer


def test_an_aligned_projector_names_what_it_saw():
    torch.manual_seed(0)
    names = 4
    words = Words(tuple("abcd"), torch.randn(names, 16), torch.randn(16))
    seen, targets = torch.randn(names, 5, 6), torch.arange(names)
    projector = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 16))
    align(projector, words, seen, targets, epochs=1000)
    with torch.inference_mode():
        tokens = projector(seen)
    assert words.logits(tokens).argmax(-1).tolist() == targets.tolist()
    assert float(words.length_error(tokens)) < 0.2
