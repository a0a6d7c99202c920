"""Formulas against the index lists of the systems they come from, and the rules of sampling."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.errors import EmptyRange
from kinema.types import FrameSampling
from kinema.video.sampling import positions, select, snap_to_keyframes
from kinema.video.timeline import Timeline


def clock(num_frames: int, fps: float = 25.0, *, every: int = 10) -> Timeline:
    keyframes = np.arange(num_frames) % every == 0
    return Timeline(np.arange(num_frames) / fps, keyframes, num_frames / fps)


def taken(timeline: Timeline, **choice: object) -> list[int]:
    return select(timeline, FrameSampling(**choice)).indices.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (100, 8, [0, 14, 28, 42, 56, 70, 84, 99]),
        (300, 8, [0, 42, 85, 128, 170, 213, 256, 299]),
        (16, 8, [0, 2, 4, 6, 8, 10, 12, 15]),
        (250, 4, [0, 83, 166, 249]),
        (7, 4, [0, 2, 4, 6]),
        (20, 3, [0, 9, 19]),
        (100, 1, [0]),
    ],
)
def test_linspace_takes_the_frames_of_neva_and_lwm(
    total: int, count: int, expected: list[int]
) -> None:
    assert positions(total, count, "linspace").tolist() == expected
    assert taken(clock(total), num_frames=count, formula="linspace") == expected


def test_arange_takes_the_frames_of_the_transformers_processors() -> None:
    assert positions(100, 8, "arange").tolist() == [0, 12, 25, 37, 50, 62, 75, 87]


def test_interior_takes_the_frames_of_vlmevalkit() -> None:
    upstream = [int(i * (100 / 9)) for i in range(1, 9)]
    assert positions(100, 8, "interior").tolist() == upstream


@pytest.mark.parametrize("total", [101, 250, 1000, 4512])
def test_segments_takes_the_frames_of_video_chatgpt(total: int) -> None:
    length = float(total - 1) / 100
    upstream = [
        (int(np.round(length * i)) + int(np.round(length * (i + 1)))) // 2 for i in range(100)
    ]
    assert positions(total, 100, "segments").tolist() == upstream


@pytest.mark.parametrize("total", [9, 16, 99, 1000])
def test_equal_time_slices_are_slice_middles_at_a_constant_rate(total: int) -> None:
    assert taken(clock(total), num_frames=8) == positions(total, 8, "slices").tolist()


@pytest.mark.parametrize("formula", ["slices", "linspace", "arange", "interior", "segments"])
def test_no_formula_repeats_a_frame_or_leaves_the_range(formula: str) -> None:
    for total in range(1, 40):
        for count in range(1, 45):
            got = positions(total, count, formula)  # type: ignore[arg-type]
            assert len(got) == min(count, total)
            assert (np.diff(got) > 0).all()
            assert got[0] >= 0
            assert got[-1] < total


def test_a_short_video_gives_each_frame_once_and_says_so() -> None:
    selection = select(clock(17), FrameSampling(num_frames=32))
    assert selection.indices.tolist() == list(range(17))
    assert selection.warnings == ("Asked for 32 frames, the video has 17.",)


def test_slices_follow_the_clock_and_not_the_index() -> None:
    seconds = np.concatenate([np.arange(30) / 30, 1 + np.arange(30) / 2])
    timeline = Timeline(seconds, np.ones(60, dtype=bool), 16.0)
    got = taken(timeline, num_frames=8)
    middles = np.arange(8) * 2.0 + 1.0
    assert seconds[got].tolist() == middles.tolist()


def test_a_rate_ticks_from_the_start_of_the_range() -> None:
    assert taken(clock(100), fps=1) == [0, 25, 50, 75]
    assert taken(clock(100), fps=2, start=1, end=2) == [25, 37]
    assert taken(clock(100), fps=25) == list(range(100))


def test_a_rate_survives_millisecond_rounding() -> None:
    seconds = np.round(np.arange(90) / 30, 3)
    timeline = Timeline(seconds, np.ones(90, dtype=bool), 3.0)
    assert taken(timeline, fps=30) == list(range(90))


def test_a_rate_above_the_sources_gives_every_frame_once_and_says_so() -> None:
    selection = select(clock(50), FrameSampling(fps=60))
    assert selection.indices.tolist() == list(range(50))
    assert selection.warnings == ("Asked for 60 frames a second, the video has 25.00.",)


def test_an_absurd_rate_stays_small() -> None:
    assert taken(clock(50), fps=1e9) == list(range(50))


def test_max_and_min_frames_bound_a_rate() -> None:
    limited = select(clock(100), FrameSampling(fps=5, max_frames=4))
    assert limited.indices.tolist() == [10, 35, 60, 85]
    assert limited.warnings
    assert len(taken(clock(100), fps=0.1, min_frames=6)) == 6


def test_times_give_the_frame_on_screen_then() -> None:
    assert taken(clock(100), at=(0.05, 1.0, "0:03")) == [1, 25, 75]
    late = select(clock(100), FrameSampling(at=(99.0,)))
    assert late.indices.tolist() == [99]
    assert "beyond the end" in late.warnings[0]


def test_key_frames_inside_the_range_are_taken() -> None:
    assert taken(clock(45), keyframes=True) == [0, 10, 20, 30, 40]
    assert taken(clock(45), keyframes=True, start=0.5, end=1.3) == [20, 30]
    with pytest.raises(EmptyRange):
        taken(clock(45), keyframes=True, start=0.1, end=0.2)


@pytest.mark.parametrize(("which", "index"), [("first", 25), ("middle", 37), ("last", 49)])
def test_single_frames_of_a_range(which: str, index: int) -> None:
    assert taken(clock(100), single=which, start=1, end=2) == [index]


def test_a_range_is_half_open_and_its_end_is_clipped_with_a_word() -> None:
    assert taken(clock(100), num_frames=100, start=1, end=1.2) == [25, 26, 27, 28, 29]
    selection = select(clock(100), FrameSampling(num_frames=2, end=60))
    assert selection.indices.tolist() == [25, 75]
    assert "beyond the end" in selection.warnings[0]


def test_a_range_inside_one_long_frame_gives_that_frame() -> None:
    timeline = Timeline(np.array([0.0, 8.0]), np.ones(2, dtype=bool), 16.0)
    assert taken(timeline, num_frames=4, start=3, end=5) == [0]


def test_a_start_beyond_the_end_is_an_empty_range() -> None:
    with pytest.raises(EmptyRange, match=r"lasts 4\.00 s") as caught:
        taken(clock(100), num_frames=4, start=10)
    assert caught.value.hint


def test_snapping_takes_the_nearest_key_frames_and_says_how_far_they_are() -> None:
    timeline = clock(100, every=30)
    exact = select(timeline, FrameSampling(at=(0.2, 1.0, 1.1, 3.9)))
    snapped = snap_to_keyframes(timeline, exact)
    assert snapped.indices.tolist() == [0, 30, 90]
    assert snapped.warnings == (
        "Approximate: 3 key frames stand in for 4 frames, up to 0.28 s away.",
    )
    alone = snap_to_keyframes(clock(100, every=1000), exact)
    assert alone.indices.tolist() == [0]
