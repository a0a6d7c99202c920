"""Batches of the hf engine: alike in length, whole, and with the answers of one by one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kinema.engines import EngineSettings
from kinema.engines.hf.batching import batches, length_of
from kinema.families import FAMILIES
from kinema.messages import (
    Conversation,
    Media,
    Message,
    Prompt,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from kinema.types import Frames
from support.tiny_families import make_checkpoint

RAGGED = next(family for family in FAMILIES.values() if family.ragged_batch_ok)
EVEN = next(family for family in FAMILIES.values() if not family.ragged_batch_ok)


def request(name, *, frames=1, characters=20, **params):
    shown = Frames(
        pixels=np.zeros((frames, 4, 4, 3), np.uint8),
        seconds=np.arange(frames, dtype=np.float64),
        indices=np.arange(frames),
        source="",
    )
    text = Prompt("x" * characters, ())
    return Request(str(name), text, (Media("video", shown),), SamplingParams(**params))


def mixed(count, *, seed=0):
    draw = random.Random(seed)
    return [request(i, characters=draw.randrange(2000)) for i in range(count)]


def characters_of(batch):
    return [len(one.prompt.text) for one in batch]


def padding(groups):
    """Characters that fill rows up to the longest of their batch."""
    return sum(max(characters_of(g)) * len(g) - sum(characters_of(g)) for g in groups)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_every_request_is_in_one_batch_and_none_is_too_large(count):
    made = list(batches(iter(mixed(count)), size=8, family=RAGGED))
    assert sorted(int(one.id) for batch in made for one in batch) == list(range(count))
    assert max(map(len, made)) <= 8


def test_batches_of_mixed_lengths_are_sorted_so_that_padding_is_small():
    asked = mixed(128)
    made = list(batches(iter(asked), size=8, family=RAGGED))
    as_they_come = [asked[i : i + 8] for i in range(0, 128, 8)]
    assert all(list(map(length_of, b)) == sorted(map(length_of, b)) for b in made)
    assert padding(made) < 0.5 * padding(as_they_come)


def test_requests_of_about_one_length_do_not_wait_for_others():
    taken = []

    def coming():
        for i in range(40):
            taken.append(i)
            yield request(i, characters=100 + i % 5)

    first = next(batches(coming(), size=8, family=RAGGED))
    assert [one.id for one in first] == [str(i) for i in range(8)]
    assert len(taken) == 8


def test_a_request_of_a_length_of_its_own_is_not_overtaken_for_ever():
    odd = request("odd", characters=1900)
    coming = iter([odd, *(request(i) for i in range(500))])
    groups = batches(coming, size=4, family=RAGGED)
    waited = next(i for i, batch in enumerate(groups) if odd in batch)
    assert waited <= 4


def test_families_that_need_even_clips_get_them():
    asked = [request(i, frames=20 + 5 * (i % 3)) for i in range(60)]
    made = list(batches(iter(asked), size=8, family=EVEN))
    assert sum(map(len, made)) == 60
    assert all(len({len(one.media[0].frames) for one in batch}) == 1 for batch in made)


def test_a_seeded_random_answer_is_drawn_alone():
    asked = [request(i, temperature=1.0, seed=i) for i in range(5)]
    assert [len(batch) for batch in batches(iter(asked), size=8, family=RAGGED)] == [1] * 5


@pytest.mark.parametrize("family", ["qwen2-vl", "llava-onevision"])
def test_sorted_batches_answer_as_one_by_one(family, tmp_path, frames):
    model = find_model(str(make_checkpoint(family, tmp_path)))
    words = ["what", "do", "you", "see", "in", "this", "video", "now"]

    def asked(i):
        parts = [TextPart(" ".join(words * (1 + 7 * i % 5)))]
        parts = [VideoPart(frames[: 1 + i % 4]), *parts] if i % 3 else parts
        return prepare(
            decode(Conversation((Message("user", tuple(parts)),)), model.family),
            family=model.family,
            checkpoint=model.checkpoint,
            params=SamplingParams(max_new_tokens=8, min_new_tokens=8),
            request_id=str(i),
        )

    requests = [asked(i) for i in range(12)]
    settings = EngineSettings(device="cpu", dtype="float32", batch_size=3, keep_conversations=0)
    engine = model.open(settings)
    together = {done.request_id: done.token_ids for done in generate(engine, requests)}
    alone = {one.id: answer(engine, one).token_ids for one in requests}
    engine.close()
    assert together == alone
