"""Action segmentation: reading segments, and metrics against hand-computed values."""

from __future__ import annotations

import pytest

from kinema.datasets.segments import Segment, as_text, parse_segments, runs
from kinema.errors import UsageError
from kinema.evaluation.segmentation import (
    correct_frames,
    edit_score,
    f1_score,
    levenshtein,
    per_video_scores,
    segment_counts,
    segment_overlaps,
)
from kinema.evaluation.timeline import colour_of, draw_timeline

BACKGROUND = {"background"}


def spell(text: str) -> list[str]:
    """``"4a 2b"`` as aaaabb; ``.`` is background."""
    pairs = ((word[:-1], word[-1]) for word in text.split())
    return ["background" if letter == "." else letter for n, letter in pairs for _ in range(int(n))]


def read(text: str, **options) -> list[tuple[int, int, str]]:
    return [(s.start, s.end, s.label) for s in parse_segments(text, **options).segments]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1-30 SIL", (0, 29, "SIL")),
        ("1-30 SIL ", (0, 29, "SIL")),
        ("30 - 90 take bowl", (29, 89, "take_bowl")),
        ("30–90: take bowl.", (29, 89, "take_bowl")),
        ("- 30 to 90, take bowl", (29, 89, "take_bowl")),
        ("2. 30-90 take bowl", (29, 89, "take_bowl")),
        ("from 30 to 90: take bowl", (29, 89, "take_bowl")),
        ("frames 30-90 take bowl", (29, 89, "take_bowl")),
        ("[30-90] take bowl", (29, 89, "take_bowl")),
        ("take bowl: 30-90", (29, 89, "take_bowl")),
        ("take bowl (30-90)", (29, 89, "take_bowl")),
        ("0-30 SIL", (0, 29, "SIL")),
        ("2.0-4.5 stir milk", (30, 68, "stir_milk")),
        ("2s - 4s: stir milk", (30, 60, "stir_milk")),
        ("0:02 - 0:04 stir milk", (30, 60, "stir_milk")),
        ("00:00:02.0-00:00:04.0 stir milk", (30, 60, "stir_milk")),
        ("stir milk (2 seconds to 4 seconds)", (30, 60, "stir_milk")),
    ],
)
def test_a_line_is_read_in_any_usual_form(line, expected):
    assert read(line, fps=15.0) == [expected]


@pytest.mark.parametrize(
    "line",
    ["SIL", "30 SIL", "take bowl", "-5 SIL", "30-10 SIL", "5-5", "1-2-3", "0:75-0:90 x", "…"],
)
def test_a_line_that_says_no_range_is_counted_and_not_guessed(line):
    parsed = parse_segments(f"1-30 SIL\n{line}\n\n30-40 pour milk", fps=15.0)
    assert parsed.unparsed_lines == (line,)
    assert [s.label for s in parsed.segments] == ["SIL", "pour_milk"]


def test_times_without_a_rate_are_unparsed():
    assert parse_segments("0:02-0:04 stir").unparsed_lines == ("0:02-0:04 stir",)


def test_inclusive_ends_belong_to_the_segment():
    assert read("1-30 a\n31-60 b", ends="inclusive") == [(0, 30, "a"), (30, 60, "b")]


def test_the_last_exclusive_end_includes_the_last_frame():
    assert read("1-30 a\n30-60 b", last_end=60) == [(0, 29, "a"), (29, 60, "b")]


def test_labels_match_the_vocabulary_in_any_spelling_and_others_are_counted():
    parsed = parse_segments("1-5 Take Bowl\n5-9 take-bowl\n9-12 fly", vocabulary=["take_bowl"])
    assert [s.label for s in parsed.segments] == ["take_bowl", "take_bowl", "fly"]
    assert parsed.unknown_labels == ("fly",)


def test_frames_overwrite_fill_and_clip():
    parsed = parse_segments("1-5 a\n3-9 b\n20-30 c", ends="inclusive")
    assert "".join(parsed.frames(10, fill="-")) == "aabbbbbbb-"
    assert parse_segments("").frames(3, fill="-") == ["-"] * 3


def test_text_and_runs_are_inverse():
    labels = spell("4a 1b 3a")
    assert runs(labels) == [Segment(0, 4, "a"), Segment(4, 5, "b"), Segment(5, 8, "a")]
    for ends in ("inclusive", "exclusive"):
        parsed = parse_segments(as_text(runs(labels), ends=ends), ends=ends)
        assert parsed.frames(8, fill="-") == labels


def test_frame_accuracy_counts_background_unless_told():
    truth, said = spell("2. 4a 2b"), spell("3. 3a 2b")
    assert correct_frames(said, truth) == (7, 8)
    assert correct_frames(said, truth, ignore=BACKGROUND) == (5, 6)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "axc", 1), ("kitten", "sitting", 3)],
)
def test_levenshtein_by_hand(first, second, distance):
    assert levenshtein(first, second) == levenshtein(second, first) == distance


def test_edit_by_hand():
    # Segment labels a b c against a c: one deletion of three.
    assert edit_score(spell("3a 3b 3c"), spell("5a 4c")) == pytest.approx(100 * 2 / 3)


def test_f1_by_hand():
    truth, said = spell("4a 4b 4a"), spell("2a 6b 4a")
    # a: IoU 2/4; b: 4/6; a: 1. At 0.25 all match, at 0.60 the first a does not.
    assert segment_counts(said, truth, overlap=0.25) == (3, 0, 0)
    assert segment_counts(said, truth, overlap=0.60) == (2, 1, 1)
    assert f1_score((2, 1, 1)) == pytest.approx(100 * 2 / 3)


def test_a_taken_segment_is_no_second_choice():
    # Both predicted a overlap the first true a most; the second one gets nothing.
    truth, said = spell("9a 1b 2a"), spell("5a 1b 4a 2c")
    assert segment_counts(said, truth, overlap=0.1) == (1, 3, 2)


def test_overlaps_by_hand():
    ious, iods = segment_overlaps(spell("2a 6b 4c"), spell("4a 4b 4d"))
    assert ious == pytest.approx([2 / 4, 4 / 6, 0])
    assert iods == pytest.approx([1, 4 / 6, 0])


def test_all_background_is_defined():
    empty = spell("9.")
    assert edit_score(empty, empty, ignore=BACKGROUND) == 100.0
    assert segment_counts(empty, empty, overlap=0.5, ignore=BACKGROUND) == (0, 0, 0)
    assert f1_score((0, 0, 0)) == 100.0
    assert edit_score(spell("9a"), empty, ignore=BACKGROUND) == 0.0
    assert segment_counts(spell("9a"), empty, overlap=0.1, ignore=BACKGROUND) == (0, 1, 0)
    assert segment_overlaps(spell("9a"), empty, ignore=BACKGROUND) == ([], [])
    assert correct_frames(empty, empty, ignore=BACKGROUND) == (0, 0)


def test_an_empty_prediction_misses_every_segment():
    said, truth = parse_segments("no idea").frames(9, fill="background"), spell("3a 3. 3b")
    assert edit_score(said, truth, ignore=BACKGROUND) == 0.0
    assert segment_counts(said, truth, overlap=0.1, ignore=BACKGROUND) == (0, 0, 2)
    assert correct_frames(said, truth) == (3, 9)


def test_segments_of_one_frame_count_like_others():
    truth = spell("1a 1b 1c")
    assert segment_counts(truth, truth, overlap=0.5) == (3, 0, 0)
    assert edit_score(spell("1a 2c"), truth) == pytest.approx(100 * 2 / 3)
    assert segment_counts(spell("1a 2c"), truth, overlap=0.5) == (2, 0, 1)


def test_different_lengths_are_refused():
    with pytest.raises(UsageError, match="3 frames and the truth 4"):
        correct_frames(spell("3a"), spell("4a"))


def test_the_per_video_variant_by_hand():
    # Nine frames (the last end minus one); the prediction covers 0..3 as a, 4..8 as b.
    scores = per_video_scores("1-5 a\n5-10 b", "1-4 a\n4-10 b")
    assert scores.frame_accuracy == pytest.approx(100 * 8 / 9)
    # F1 of a: 2·3/(3+4); of b: 2·5/(6+5); weighted by 3 and 6 frames.
    assert scores.weighted_f1 == pytest.approx(100 * (6 / 7 * 3 + 10 / 11 * 6) / 9)
    assert (scores.f1_at_10, scores.f1_at_25, scores.f1_at_50) == (100, 100, 100)
    assert (scores.edit, scores.label_recall) == (100, 100)


def test_the_per_video_variant_of_nothing_is_zero():
    scores = per_video_scores("", "1-4 a\n4-10 b")
    assert scores == (0, 0, 0, 0, 0, 0, 0)


def test_a_timeline_shows_each_label_where_it_is():
    truth, said = spell("50a 50b"), spell("100a")
    image = draw_timeline(said, truth, title="P03 salat", width=300)
    left, right = 100, 280
    rows = [image.getpixel((x, 40)) for x in (left, right)]
    assert rows == [colour_of(0), colour_of(0)]
    rows = [image.getpixel((x, 76)) for x in (left, right)]
    assert rows == [colour_of(0), colour_of(1)]


def test_a_timeline_of_many_labels_or_none_is_drawn():
    names = [f"label_{i}" for i in range(60)]
    assert draw_timeline(names, names).height > draw_timeline(names[:2], names[:2]).height
    assert draw_timeline([], []).width == 960
    assert len({colour_of(i) for i in range(20)}) == 20
