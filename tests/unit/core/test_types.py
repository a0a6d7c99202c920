from __future__ import annotations

import pickle

import numpy as np
import pytest

from kinema.errors import ContextTooLong, MediaNotFound, UnknownName, UsageError
from kinema.types import Frames, FrameSampling, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (12.5, 12.5),
        ("12.5", 12.5),
        ("1:20", 80),
        ("0:01:20.500", 80.5),
        ("10:00:00", 36000),
        ("0", 0),
    ],
)
def test_times_are_read_in_every_documented_form(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["abc", "", "-1", "1:2:3:4", "nan", "inf", "1:60", "1:-5", "1:"])
def test_what_is_no_time_is_refused_with_the_forms_that_are(text):
    with pytest.raises(UsageError) as caught:
        parse_seconds(text)
    assert "MM:SS" in caught.value.hint


@pytest.mark.parametrize(
    "choice",
    [
        {"num_frames": 8, "fps": 1.0},
        {"at": (1.0,), "keyframes": True},
        {"single": "first", "num_frames": 1},
        {"num_frames": 0},
        {"fps": 0},
        {"fps": -1},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"num_frames": 8, "max_frames": 4},
        {"num_frames": 8, "min_frames": 4},
        {"fps": 1, "min_frames": 5, "max_frames": 4},
        {"at": ()},
        {"at": ("abc",)},
        {"start": 5, "end": 5},
        {"start": "1:20", "end": "0:20"},
        {"end": 0},
    ],
)
def test_contradictory_samplings_are_refused(choice):
    with pytest.raises(UsageError):
        FrameSampling(**choice)


def test_conflict_names_both_flags():
    with pytest.raises(UsageError, match="num_frames and fps exclude each other"):
        FrameSampling(num_frames=8, fps=1)


def test_a_default_choice_keeps_the_range_of_the_user():
    chosen = FrameSampling(start="0:10", end=20).or_default(FrameSampling(num_frames=8))
    assert (chosen.num_frames, chosen.start_seconds, chosen.end_seconds) == (8, 10, 20)
    assert FrameSampling(fps=2).or_default(FrameSampling(num_frames=8)).num_frames is None


def test_sampling_record_holds_what_was_given():
    assert FrameSampling(at=(1, "1:20"), end=90).to_dict() == {"at": [1, "1:20"], "end": 90}


def _frames(**changes):
    values = {
        "pixels": np.zeros((3, 4, 5, 3), np.uint8),
        "seconds": np.arange(3, dtype=np.float64),
        "indices": np.arange(3, dtype=np.int64),
    }
    return Frames(**(values | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": np.zeros((4, 5, 3), np.uint8)},
        {"pixels": np.zeros((3, 4, 5, 4), np.uint8)},
        {"pixels": np.zeros((3, 4, 5, 3), np.float32)},
        {"pixels": np.zeros((0, 4, 5, 3), np.uint8)},
        {"pixels": np.zeros((3, 0, 5, 3), np.uint8)},
        {"seconds": np.arange(2, dtype=np.float64)},
        {"seconds": np.arange(3, dtype=np.float32)},
        {"seconds": np.array([0.0, 1.0, 1.0])},
        {"seconds": np.array([0.0, np.nan, 1.0])},
        {"indices": np.array([2, 1, 0])},
        {"indices": np.arange(3, dtype=np.int32)},
    ],
)
def test_frames_refuse_wrong_rank_dtype_length_and_clock(change):
    with pytest.raises(UsageError):
        _frames(**change)


def test_pixels_and_clock_are_cut_together():
    cut = _frames()[1:]
    assert len(cut) == 2
    assert cut.seconds.tolist() == [1.0, 2.0]
    assert cut.indices.tolist() == [1, 2]
    assert [seconds for seconds, _ in cut] == [1.0, 2.0]


def test_frames_say_what_was_seen():
    assert _frames(total_frames=4512).seen == "saw 3 of 4512 frames, 0.00–2.00 s"
    assert _frames()[:1].seen == "saw 1 frame, 0.00–0.00 s"
    assert "uint8[3, 4, 5, 3]" in repr(_frames())


def test_frames_record_is_json_without_pixels():
    record = _frames(warnings=("short",)).to_dict()
    assert record["indices"] == [0, 1, 2]
    assert record["warnings"] == ["short"]
    assert "pixels" not in record


def test_errors_survive_the_border_between_processes():
    for error in (
        MediaNotFound("gone", hint="look"),
        ContextTooLong(needed=9, available=5, largest_num_frames=2),
        UnknownName("model", "ecko", ["echo", "neva"]),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.hint) == (type(error), str(error), error.hint)
        assert vars(copy) == vars(error)


def test_unknown_names_suggest_the_nearest():
    assert "Did you mean 'echo'?" in UnknownName("model", "ecko", ["echo", "neva"]).hint
