"""Decoded media: read once, held while they are needed, within a budget of bytes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kinema.errors import MediaNotFound
from kinema.families import FAMILIES
from kinema.jobs.clips import Clips, estimated_bytes
from kinema.messages import Conversation, Message, TextPart, VideoPart
from kinema.types import Frames, FrameSampling
from kinema.video import load_frames, probe
from support.clips import make_clip

FRAME_BYTES = 96 * 64 * 3


class Readers:
    """Stands for worker processes: reads in this one, counts, and can be held up."""

    def __init__(self):
        self.read = []
        self.gate = threading.Event()
        self.gate.set()

    def load_frames(self, source, *, sampling, strict=False, **choice):
        self.gate.wait(20)
        self.read.append(str(source))
        return load_frames(source, sampling=sampling, **choice)

    def probe(self, source, **choice):
        return probe(source, **choice)


@pytest.fixture
def readers():
    return Readers()


@pytest.fixture
def videos(tmp_path):
    return [make_clip(tmp_path / f"{i}.mp4", num_frames=20, fps=10) for i in range(6)]


def made(readers, pool, **limits):
    return Clips(readers, pool, FAMILIES["echo"], **limits)


def about(*videos, frames=4):
    parts = tuple(VideoPart(str(v), FrameSampling(num_frames=frames)) for v in videos)
    return Conversation((Message("user", (*parts, TextPart("What?"))),))


def run(main):
    with ThreadPoolExecutor(2) as pool:
        return asyncio.run(asyncio.wait_for(main(pool), 30))


def test_questions_about_one_video_read_it_once_and_get_the_same_pixels(readers, videos):
    async def main(pool):
        clips = made(readers, pool)

        async def ask():
            async with clips.decoded(about(videos[0])) as conversation:
                (part,) = conversation.media
                return part.source

        return await asyncio.gather(*(ask() for _ in range(8))), clips.num_decodes

    frames, num_decodes = run(main)
    assert num_decodes == len(readers.read) == 1
    assert all(f.pixels is frames[0].pixels for f in frames)
    expected = load_frames(videos[0], num_frames=4)
    assert np.array_equal(frames[0].pixels, expected.pixels)


def test_another_sampling_of_the_same_video_is_another_clip(readers, videos):
    async def main(pool):
        clips = made(readers, pool)
        for frames in (2, 3):
            async with clips.decoded(about(videos[0], frames=frames)) as conversation:
                assert [len(part.source) for part in conversation.media] == [frames]

    run(main)
    assert len(readers.read) == 2


def test_decoded_bytes_stay_within_the_budget(readers, videos):
    held = []

    async def main(pool):
        clips = made(readers, pool, budget_bytes=2 * 4 * FRAME_BYTES)

        async def ask(video):
            async with clips.decoded(about(video)) as conversation:
                held.append(clips._budget.used)
                assert isinstance(conversation.media[0].source, Frames)
                await asyncio.sleep(0.01)

        await asyncio.gather(*map(ask, videos))

    run(main)
    assert len(held) == 6
    assert max(held) <= 2 * 4 * FRAME_BYTES


def test_a_clip_larger_than_the_budget_is_admitted_when_it_is_alone(readers, videos):
    held = {}

    async def main(pool):
        clips = made(readers, pool, budget_bytes=5 * FRAME_BYTES)

        async def ask(video, frames):
            async with clips.decoded(about(video, frames=frames)) as conversation:
                assert len(conversation.media[0].source) == frames
                held[frames] = clips._budget.used
                await asyncio.sleep(0.01)

        await asyncio.gather(ask(videos[0], 4), ask(videos[1], 16), ask(videos[2], 3))

    run(main)
    assert held[16] == 16 * FRAME_BYTES
    assert held[4] == 4 * FRAME_BYTES
    assert held[3] == 3 * FRAME_BYTES


def test_two_large_videos_of_one_question_come_under_one_grant(readers, videos):
    async def main(pool):
        clips = made(readers, pool, budget_bytes=5 * FRAME_BYTES)

        async def ask(*some):
            async with clips.decoded(about(*some)) as conversation:
                return [len(part.source) for part in conversation.media]

        return await asyncio.gather(ask(*videos[:2]), ask(*videos[1:3]), ask(*videos[2:4]))

    assert run(main) == [[4, 4]] * 3


def test_who_leaves_does_not_take_the_clip_away_from_others(readers, videos):
    readers.gate.clear()

    async def main(pool):
        clips = made(readers, pool)

        async def ask():
            async with clips.decoded(about(videos[0])) as conversation:
                return len(conversation.media[0].source)

        leaver, stayer = asyncio.create_task(ask()), asyncio.create_task(ask())
        await asyncio.sleep(0.2)
        leaver.cancel()
        readers.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        return await stayer

    assert run(main) == 4
    assert len(readers.read) == 1


def test_a_failed_reading_is_told_to_all_that_wait_and_tried_again_later(readers, tmp_path):
    missing = tmp_path / "later.mp4"

    async def main(pool):
        clips = made(readers, pool)

        async def ask():
            async with clips.decoded(about(missing)) as conversation:
                return len(conversation.media[0].source)

        both = await asyncio.gather(ask(), ask(), return_exceptions=True)
        assert [type(problem) for problem in both] == [MediaNotFound] * 2
        assert clips._budget.used == 0
        make_clip(missing, num_frames=20, fps=10)
        return await ask()

    assert run(main) == 4


@pytest.mark.parametrize(
    ("sampling", "frames"),
    [
        (FrameSampling(num_frames=4), 4),
        (FrameSampling(num_frames=400), 20),
        (FrameSampling(fps=2), 5),
        (FrameSampling(fps=2, max_frames=3), 3),
        (FrameSampling(at=(0.0, 0.5, 1.0)), 3),
        (FrameSampling(single="middle"), 1),
    ],
)
def test_bytes_are_estimated_from_size_and_sampling_never_too_low(videos, sampling, frames):
    estimated = estimated_bytes(probe(videos[0]), sampling)
    assert estimated == frames * FRAME_BYTES
    assert load_frames(videos[0], sampling=sampling).pixels.nbytes <= estimated
