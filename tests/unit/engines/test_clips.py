"""What processors are told about a clip: true times, never a default rate."""

from __future__ import annotations

import numpy as np
import pytest
from transformers.video_utils import VideoMetadata

from kinema.engines.clips import shown_pixels, video_metadata
from kinema.families import FAMILIES
from kinema.types import Frames

QWEN = FAMILIES["qwen2.5-vl"]


def _frames(seconds, **more):
    count = len(seconds)
    return Frames(
        pixels=np.zeros((count, 28, 28, 3), dtype=np.uint8),
        seconds=np.array(seconds, dtype=np.float64),
        indices=np.arange(count, dtype=np.int64),
        **more,
    )


@pytest.mark.parametrize(
    "seconds",
    [[0.0, 1.0, 2.0, 3.0], [80.0, 84.0, 88.0], [0.0, 0.04, 1.5, 1.54], [12.5]],
    ids=["from the start", "a range", "variable rate", "one frame"],
)
def test_times_come_out_as_they_are(seconds):
    metadata = VideoMetadata(**video_metadata(_frames(seconds), QWEN))
    assert metadata.timestamps == pytest.approx(seconds, abs=1e-3)


def test_the_sampled_rate_of_a_range_is_that_of_its_frames():
    metadata = video_metadata(_frames([80.0, 84.0, 88.0], duration_seconds=600.0), QWEN)
    assert VideoMetadata(**metadata).sampled_fps == pytest.approx(0.25)


def test_the_rate_is_never_left_to_a_default():
    for seconds in ([0.0], [0.0, 10.0]):
        metadata = video_metadata(_frames(seconds), QWEN)
        assert metadata["fps"] > 0
        assert VideoMetadata(**metadata).sampled_fps != 24


def test_missing_frames_are_the_last_one_again():
    one = _frames([2.0])
    for name, count in (("qwen3-vl", 2), ("video-llava", 8), ("qwen2-vl", 1)):
        family = FAMILIES[name]
        assert len(shown_pixels(one, family)) == count
        assert video_metadata(one, family)["frames_indices"] == [2000] * count
