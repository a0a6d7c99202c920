"""Batches of the hf engine: near in length, whole, and with the answers of one by one."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from kinema.engines import EngineSettings
from kinema.engines.hf.batching import pick, shown_memory
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
from support.driver import answer, generate
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


def batches(asked, *, size, family):
    """All batches, each picked from what is left."""
    waiting = list(asked)
    while waiting:
        chosen = pick(waiting, size=size, family=family)
        assert chosen[0] is waiting[0] or waiting[0] in chosen
        waiting = [one for one in waiting if one not in chosen]
        yield chosen


def padding(groups):
    """Characters that fill rows up to the longest of their batch."""
    lengths = [[len(one.prompt.text) for one in group] for group in groups]
    return sum(max(group) * len(group) - sum(group) for group in lengths)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_every_request_is_in_one_batch_and_none_is_too_large(count):
    made = list(batches(mixed(count), size=8, family=RAGGED))
    assert sorted(int(one.id) for batch in made for one in batch) == list(range(count))
    assert max(map(len, made)) <= 8


def test_batches_of_mixed_lengths_hold_what_is_near_in_length():
    asked = mixed(128)
    made = list(batches(asked, size=8, family=RAGGED))
    as_they_come = [asked[i : i + 8] for i in range(0, 128, 8)]
    assert padding(made) < 0.5 * padding(as_they_come)


def test_the_request_that_waits_longest_is_always_picked():
    odd = request("odd", characters=1900)
    chosen = pick([odd, *(request(i) for i in range(500))], size=4, family=RAGGED)
    assert chosen[0] is odd
    assert len(chosen) == 4


def test_questions_about_one_video_are_picked_before_others_and_stand_side_by_side():
    about_a, about_b, about_c = request("a"), request("b"), request("c", characters=500)

    def again(one, name, characters=20):
        return replace(one, id=name, prompt=Prompt("x" * characters))

    waiting = [
        about_a,
        about_b,
        about_c,
        again(about_c, "c2", 21),
        again(about_b, "b2", 40),
        again(about_a, "a2", 900),
    ]
    chosen = pick(waiting, size=8, family=RAGGED)
    assert [one.id for one in chosen] == ["a", "a2", "b", "b2", "c", "c2"]
    assert [one.id for one in pick(waiting, size=3, family=RAGGED)] == ["a", "a2", "b"]


def test_views_of_one_video_are_one_video_and_equal_pixels_elsewhere_are_not():
    one = request("one", frames=3)
    (medium,) = one.media
    cut = replace(medium, frames=medium.frames[0:2])
    again = replace(medium, frames=medium.frames[0:2])
    elsewhere = replace(
        medium, frames=replace(medium.frames, pixels=medium.frames.pixels.copy())[0:2]
    )
    of = [shown_memory(replace(one, media=(shown,))) for shown in (cut, again, elsewhere, medium)]
    assert of[0] == of[1]
    assert len(set(of)) == 3
    assert shown_memory(replace(one, media=())) == ()


def test_families_that_need_even_clips_get_them():
    asked = [request(i, frames=20 + 5 * (i % 3)) for i in range(60)]
    made = list(batches(asked, size=8, family=EVEN))
    assert sum(map(len, made)) == 60
    assert all(len({len(one.media[0].frames) for one in batch}) == 1 for batch in made)


@pytest.mark.parametrize("params", [{"temperature": 1.0, "seed": 3}, {"logprobs": 0}])
def test_what_a_neighbour_would_move_runs_alone(params):
    asked = [request(i, **params) for i in range(5)]
    assert [len(batch) for batch in batches(asked, size=8, family=RAGGED)] == [1] * 5


def test_a_seed_that_draws_nothing_keeps_nobody_apart():
    asked = [request(i, seed=i) for i in range(5)]
    assert [len(batch) for batch in batches(asked, size=8, family=RAGGED)] == [5]


@pytest.mark.parametrize("family", ["qwen2-vl", "llava-onevision"])
def test_batches_answer_as_one_by_one(family, tmp_path, frames):
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
