"""Segments: windows, shots and lists, with nothing dropped in silence."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from kinema.captioning.segments import SegmentOptions, cut, read_ranges
from kinema.errors import EmptyRange, UsageError
from kinema.types import Frames, FrameSampling
from kinema.video import find_shots
from kinema.video.cache import cached_index
from kinema.video.similar import distinct
from kinema.video.source import open_media
from kinema.video.timeline import Timeline
from support.clips import make_clip


def clock(count, *, fps=10.0):
    times = np.arange(count) / fps
    return Timeline(times, np.ones(count, dtype=bool), count / fps)


def segments(timeline, source="", *, fps=1.0, start=None, end=None, **options):
    sampling = FrameSampling(fps=fps, start=start, end=end)
    find = partial(find_shots, source)
    return cut(timeline, SegmentOptions(**options), sampling, find_shots=find)


def spans(found):
    return [(s.start_seconds, s.end_seconds) for s in found]


def assert_whole(found, begin, end):
    assert found[0].start_seconds == begin
    assert found[-1].end_seconds == end
    for one, other in pairwise(found):
        assert one.end_seconds == other.start_seconds


@pytest.mark.parametrize("length", [1, 3, 40, 41, 97, 100])
@pytest.mark.parametrize("by", ["frames", "seconds"])
def test_segments_cover_the_whole_video_and_show_each_sampled_frame_once(length, by):
    timeline = clock(length)
    found, notes = segments(timeline, segment_by=by, window=2.5, fps=2.0)
    assert_whole(found, 0.0, length / 10)
    seen = [i for s in found for i in s.frame_indices]
    assert seen == sorted(set(seen))
    assert all(s.frame_indices for s in found)
    assert not notes


def test_the_last_batch_may_be_short():
    found, _ = segments(clock(100), batch_size=4)
    assert [len(s.frame_indices) for s in found] == [4, 4, 2]
    assert spans(found) == [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]


def test_a_range_bounds_all_segments():
    found, _ = segments(clock(100), segment_by="seconds", window=3.0, start=2.0, end=9.0)
    assert_whole(found, 2.0, 9.0)
    with pytest.raises(EmptyRange, match="lies beyond the end"):
        segments(clock(100), start=11.0, segment_by="seconds")


def test_short_segments_join_and_long_ones_split():
    joined, _ = segments(clock(100), segment_by="seconds", window=3.0, min_segment=2.0)
    assert spans(joined) == [(0.0, 3.0), (3.0, 6.0), (6.0, 10.0)]
    parts, _ = segments(clock(100), segment_by="seconds", window=6.0, max_segment=2.0)
    assert_whole(parts, 0.0, 10.0)
    assert max(s.end_seconds - s.start_seconds for s in parts) <= 2.0 + 1e-9


def test_a_list_says_what_it_leaves_out(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([[1, 2], ["0:05", "0:07"], {"start": 50, "end": 60}]))
    found, notes = segments(clock(100), segment_by="list", segment_list=path)
    assert spans(found) == [(1.0, 2.0), (5.0, 7.0)]
    assert notes == (
        "0–1 s is in no listed segment.",
        "2–5 s is in no listed segment.",
        "The listed segment 50–60 s lies outside the video.",
        "7–10 s is in no listed segment.",
    )


def test_lists_are_read_from_csv_with_or_without_a_header(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('start,end,label\n0,1.5,a\n\n"0:02", "0:03","b, c"\n')
    assert read_ranges(path) == [(0.0, 1.5), (2.0, 3.0)]
    path.write_text("3,2\n")
    with pytest.raises(UsageError, match="3 is not before 2"):
        read_ranges(path)


def test_shots_are_segments(tmp_path):
    colours = [(200, 30, 30)] * 25 + [(245, 245, 245)] * 25 + [(20, 20, 120)] * 25
    pictures = [np.full((64, 96, 3), colour, dtype=np.uint8) for colour in colours]
    path = make_clip(tmp_path / "shots.mp4", num_frames=75, pictures=pictures)
    timeline = cached_index(open_media(path)).timeline
    found, _ = segments(timeline, path, segment_by="shots", fps=2.0)
    assert spans(found) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert [s.opens_with for s in found] == ["start", "cut", "cut"]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"window": 0.0},
        {"window": float("nan")},
        {"segment_by": "shots", "min_segment": 5.0, "max_segment": 6.0},
        {"max_segment": 2.0},
        {"segment_by": "list"},
    ],
)
def test_lengths_that_cannot_hold_are_refused(options):
    with pytest.raises(UsageError):
        SegmentOptions(**options)


def test_ten_hours_are_cut_without_decoding_anything():
    found, _ = segments(clock(10 * 3600, fps=1.0))
    assert len(found) == 9000
    assert_whole(found, 0.0, 36000.0)


def still(values):
    pixels = np.stack([np.full((16, 16, 3), v, dtype=np.uint8) for v in values])
    count = len(values)
    return Frames(pixels, np.arange(count, dtype=np.float64), np.arange(count, dtype=np.int64))


def test_similar_frames_go_and_first_middle_and_last_stay():
    assert distinct(still([5] * 9), 2.0).tolist() == [0, 4, 8]
    assert distinct(still([5, 5, 90, 90, 90, 90]), 2.0).tolist() == [0, 2, 3, 5]
    assert distinct(still([5] * 4), None).tolist() == [0, 1, 2, 3]
    slow = still(range(0, 40))  # each close to the next, but not to the one kept
    assert len(distinct(slow, 5.0)) >= 8
