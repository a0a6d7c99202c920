"""Answers read off the nearest words, with hand-made words and tokens."""

import pytest
import torch
from torch import nn

from align import Clip, align
from art import COLOURS
from nearest import Reader
from scenes import DIRECTIONS
from topics import NUM_TOKENS, TOPICS, Words, said
from words import NUMBERS

PHRASES = {
    "thing": ("banana", "bento box", "star"),
    "next thing": ("", "banana", "bento box", "star"),
    "colour": ("", *COLOURS),
    "count": NUMBERS,
    "direction": ("", *DIRECTIONS),
}
HIDDEN = 64


def words_of(topic):
    phrases, where = PHRASES[topic], TOPICS[topic]
    directions = torch.eye(HIDDEN)[: len(phrases)].unsqueeze(1)
    return Words(
        where,
        phrases,
        directions.expand(-1, where.end - where.begin, -1),
        torch.full((HIDDEN,), 0.5),
    )


WORDS = {topic: words_of(topic) for topic in TOPICS}


def meta(*things, colour="", count="one", direction=""):
    return {"things": things, "colour": colour, "count": count, "direction": direction}


def tokens_of(told):
    """Tokens that point exactly where the words of a clip are, float32[1, NUM_TOKENS, HIDDEN]."""
    tokens = torch.zeros(NUM_TOKENS, HIDDEN)
    for topic, words in WORDS.items():
        (position,) = words.positions([said(told)[topic]]).tolist()
        tokens[words.topic.begin : words.topic.end] = words.directions[position] + words.middle
    return tokens[None]


@pytest.mark.parametrize(
    ("skill", "told", "question", "answer"),
    [
        ("naming", meta("banana"), "What is this?", "banana"),
        ("naming", meta("bento box"), "What do you see?", "bento box"),
        ("colour", meta("star", colour="red"), "What colour is the star?", "red"),
        ("count", meta("star", count="four"), "How many are there?", "four"),
        ("direction", meta("star", direction="left"), "Where does it move?", "left"),
        ("first", meta("banana", "star"), "What was seen first, star or banana?", "banana"),
        ("first", meta("star", "banana"), "What was seen first, star or banana?", "star"),
        ("presence", meta("banana"), "Is there a banana?", "yes"),
        ("presence", meta("star", "banana"), "Is there a banana?", "yes"),
        ("presence", meta("banana"), "Is there a bento box?", "no"),
    ],
)
def test_the_nearest_words_answer(skill, told, question, answer):
    reader = Reader(WORDS)
    assert reader.answer(skill, reader.near(tokens_of(told)), question) == answer


def test_an_aligned_projector_says_what_it_saw():
    torch.manual_seed(0)
    told = [meta("banana"), meta("star", count="three"), meta("bento box", colour="red"),
            meta("star", "banana"), meta("banana", direction="up")]  # fmt: skip
    clips = [Clip(torch.randn(4, 9, 6), said(one)) for one in told]
    projector = nn.Sequential(
        nn.Linear(6, 32), nn.GELU(), nn.Flatten(), nn.Linear(36 * 32, NUM_TOKENS * HIDDEN),
        nn.Unflatten(1, (NUM_TOKENS, HIDDEN)),
    )  # fmt: skip
    align(projector, WORDS, clips, epochs=120)
    with torch.inference_mode():
        tokens = projector(torch.stack([clip.frames.flatten(0, 1) for clip in clips]))
    for topic, words in WORDS.items():
        found = words.logits(tokens).argmax(-1)
        assert found.tolist() == words.positions(clip.said[topic] for clip in clips).tolist()
        assert float(words.length_error(tokens)) < 0.2
