"""Frames that a family gets when nobody says which: those of its processor in transformers.

Of a clip at a constant rate, that is: kinema goes by the time at which a frame is shown.
"""

from __future__ import annotations

import numpy as np
import pytest
import transformers as T
from transformers.video_utils import VideoMetadata

from kinema.families import FAMILIES
from kinema.video.sampling import select
from kinema.video.timeline import Timeline

FPS = 30.0
COUNT, RATE = {"num_frames": 8}, {"fps": 2}
SAME = {
    "llava-onevision": (T.LlavaOnevisionVideoProcessor, COUNT),
    "llava-next-video": (T.LlavaNextVideoVideoProcessor, COUNT),
    "video-llava": (T.VideoLlavaVideoProcessor, COUNT),
    "internvl": (T.InternVLVideoProcessor, COUNT),
    "qwen2-vl": (T.Qwen2VLVideoProcessor, RATE),
    "qwen2.5-vl": (T.Qwen2VLVideoProcessor, RATE),
    "videollama3": (T.VideoLlama3VideoProcessor, {"fps": 1}),
}
# Their samplers also move frames away from the regular times, to meet the last one.
AS_MANY = {
    "qwen3-vl": (T.Qwen3VLVideoProcessor, {}),
    "smolvlm": (T.SmolVLMVideoProcessor, {"fps": 1, "num_frames": 64}),
}


def _ours(name: str, num_frames: int) -> list[int]:
    timeline = Timeline(
        seconds=np.arange(num_frames) / FPS,
        keyframes=np.zeros(num_frames, dtype=bool),
        duration_seconds=num_frames / FPS,
    )
    return select(timeline, FAMILIES[name].default_sampling).indices.tolist()


def _theirs(processor: type, num_frames: int, asked: dict[str, float]) -> list[int]:
    seconds = num_frames / FPS
    facts = VideoMetadata(total_num_frames=num_frames, fps=FPS, duration=seconds)
    return np.asarray(processor().sample_frames(facts, **asked)).tolist()


@pytest.mark.parametrize("seconds", [1, 2, 10, 60])
@pytest.mark.parametrize("name", SAME)
def test_frames_are_those_of_the_processor(name, seconds):
    processor, asked = SAME[name]
    num_frames = int(seconds * FPS)
    assert _ours(name, num_frames) == _theirs(processor, num_frames, asked)


@pytest.mark.parametrize("seconds", [2, 10, 60])
@pytest.mark.parametrize("name", AS_MANY)
def test_there_are_as_many_frames_as_from_the_processor(name, seconds):
    processor, asked = AS_MANY[name]
    num_frames = int(seconds * FPS)
    assert len(_ours(name, num_frames)) == len(_theirs(processor, num_frames, asked))
