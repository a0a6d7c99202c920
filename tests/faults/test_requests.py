"""Rows 15 to 17: asking for more than there is, for what makes no sense, or for more than fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinema import prompt as prompts
from kinema.__main__ import main
from kinema.engines.echo import TOKENS_PER_FRAME, EchoEngine
from kinema.errors import ContextTooLong, EmptyRange, UsageError
from kinema.messages import (
    Conversation,
    Message,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.models import find_model
from kinema.types import Frames, FrameSampling
from kinema.video import load_frames
from support.clips import make_clip, read_boards


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 25 frames a second."""
    path = tmp_path_factory.mktemp("requests") / "clip.mp4"
    make_clip(path, num_frames=50)
    return path


def assert_each_once(frames: Frames) -> None:
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert len(set(frames.indices.tolist())) == len(frames)


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"num_frames": 80}, "Asked for 80 frames, the video has 50."),
        ({"fps": 60}, "Asked for 60 frames a second, the video has 25.00."),
        ({"fps": 1e9}, "Asked for 1e+09 frames a second, the video has 25.00."),
    ],
)
def test_more_than_there_is_gives_each_frame_once_and_says_so(
    clip: Path, choice: dict[str, Any], said: str
) -> None:
    frames = load_frames(clip, **choice)
    assert len(frames) == 50
    assert_each_once(frames)
    assert frames.warnings == (said,)


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "choice",
    [
        {"num_frames": 0},
        {"num_frames": -1},
        {"fps": 0},
        {"fps": -1},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"fps": 1, "num_frames": 8},
    ],
)
def test_what_makes_no_sense_is_a_usage_error(clip: Path, choice: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        load_frames(clip, **choice)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in choice.items()]
    assert main(["probe", str(clip), *flags]) == 2


@pytest.mark.fault(16)
@pytest.mark.parametrize("start", [1, "1", "1.0", "0:01", "00:01", "0:00:01.000"])
def test_times_are_read_in_every_usual_form(clip: Path, start: str | float) -> None:
    frames = load_frames(clip, num_frames=4, start=start)
    assert frames.indices[0] >= 25
    assert_each_once(frames)


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "bounds",
    [
        {"start": 1, "end": 1},
        {"start": 2, "end": 1},
        {"start": -1},
        {"end": "abc"},
        {"start": "1:75"},
        {"start": "1:2:3:4"},
        {"end": float("nan")},
    ],
)
def test_a_range_that_makes_no_sense_is_a_usage_error(clip: Path, bounds: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        load_frames(clip, num_frames=4, **bounds)
    assert caught.value.hint
    assert main(["probe", str(clip), *(f"--{k}={v}" for k, v in bounds.items())]) == 2


@pytest.mark.fault(16)
def test_an_end_beyond_the_end_is_clipped_with_a_note_and_a_start_is_refused(clip: Path) -> None:
    frames = load_frames(clip, num_frames=4, start=1, end=99)
    assert frames.warnings == ("--end 99 lies beyond the end; the video stops at 2.00 s.",)
    assert frames.seconds[-1] < 2
    with pytest.raises(EmptyRange, match=r"lasts 2\.00 s"):
        load_frames(clip, num_frames=4, start=3)


@pytest.mark.fault(17)
def test_too_many_frames_are_counted_before_the_model_runs(clip: Path) -> None:
    """The error names what is needed, what there is, and the number of frames that fits."""
    model = find_model("echo")
    video = VideoPart(clip, FrameSampling(num_frames=40))
    said = Conversation((Message("user", (video, TextPart("why?"))),))

    def prepare(conversation: Conversation) -> Request:
        params = SamplingParams(max_new_tokens=8)
        facts = {"family": model.family, "checkpoint": model.checkpoint, "params": params}
        return prompts.prepare(conversation, **facts)

    engine = EchoEngine(context_length=8 + 20 + 3 * TOKENS_PER_FRAME)
    request = prepare(prompts.decode(said, model.family))
    budget = {
        "count": engine.count_tokens,
        "context_length": engine.context_length,
        "reprepare": prepare,
    }
    with pytest.raises(ContextTooLong) as caught:
        prompts.fit(request, **budget)
    error, fitting = caught.value, caught.value.largest_num_frames
    assert error.needed == engine.count_tokens(request) + 8 > error.available
    assert f"num_frames {fitting}" in error.hint
    smaller, note = prompts.fit(request, **budget, reduce=True)
    assert len(smaller.media[0].frames) == fitting
    assert f"{fitting} frames" in note
