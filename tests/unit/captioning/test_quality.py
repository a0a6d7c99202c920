"""Flags: each rule finds what it is for and leaves plain captions alone."""

import pytest

from kinema.captioning.quality import (
    common_sentences,
    flagged,
    language_check,
    mentioned_seconds,
    own_flags,
    parse_worst,
    worst,
)
from kinema.captioning.records import Caption, VideoRecord
from kinema.errors import UsageError


def caption(text, index=0, **more):
    return Caption(
        index=index,
        start_seconds=10.0 * index,
        end_seconds=10.0 * index + 10,
        text=text,
        frame_indices=(),
        frame_seconds=(),
        **more,
    )


def record(*texts, source="a"):
    made = tuple(caption(text, i) for i, text in enumerate(texts))
    return VideoRecord(source=source, status="ok", captions=made)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("A man opens a door and walks into a bright kitchen.", []),
        ("", ["empty"]),
        ("…", ["empty"]),
        ("The dog runs fast. The dog runs fast.", ["repeated"]),
        ("and then he goes " * 6, ["repeated"]),
        ("I'm sorry, but I can't help with that.", ["refusal"]),
        ("I can not see any video here, as an AI.", ["refusal"]),
        ("At 0:45 the car turns left.", ["time_out_of_bounds"]),
        ("At 0:05 the car turns left after 3 seconds.", []),
        ("The score is 10:02 on the board at 4.5 s.", ["time_out_of_bounds"]),
        ("No. No. Stop.", []),
    ],
)
def test_a_caption_is_flagged_for_what_it_is(text, flags):
    assert own_flags(caption(text)) == flags


def test_a_cut_answer_and_a_missing_one():
    assert own_flags(caption("A dog", finish_reason="length")) == ["truncated"]
    assert own_flags(caption("", error="gone")) == []


@pytest.mark.parametrize(("name", "flags"), [("English", ["wrong_language"]), ("de", [])])
def test_another_language_is_noticed(name, flags):
    wanted, language = language_check(name)
    text = "Ein Mann öffnet langsam die Tür zur Küche."
    assert own_flags(caption(text), wanted=wanted, language=language) == flags


def test_a_language_that_nobody_can_tell_flags_nothing():
    assert language_check("Klingon") == (None, None)
    assert language_check(None) == (None, None)


def test_neighbours_that_say_the_same_are_flagged_once():
    made = flagged(record("a dog runs in grass", "a dog runs in grass", "a cat sleeps on it"))
    assert [c.flags for c in made.captions] == [(), ("near_duplicate",), ()]


def test_a_sentence_of_a_fifth_of_all_videos_is_boilerplate():
    records = [
        record(f"Video {i} is new. Like and subscribe now.", source=str(i)) for i in range(6)
    ]
    common = common_sentences(records)
    assert common == {"Like and subscribe now."}
    assert flagged(records[0], common=common).captions[0].flags == ("boilerplate",)
    assert common_sentences(records[:4]) == frozenset()


def test_the_worst_share_is_chosen_and_never_a_clean_caption():
    bad = record("fine words here", "", "I cannot help with this")
    clean = record(*(f"a quiet street number {i}" for i in range(17)), source="b")
    records = [flagged(bad), flagged(clean)]
    assert worst(records, 0.05) == {"a": frozenset({1})}
    assert worst(records, 1.0) == {"a": frozenset({1, 2})}


def test_the_share_is_written_in_one_way():
    assert parse_worst("worst:5%") == 0.05
    for text in ("5%", "worst:0%", "worst:101%", "worst:x%"):
        with pytest.raises(UsageError, match="recaption"):
            parse_worst(text)


def test_times_are_read_in_every_common_form():
    assert mentioned_seconds("at 1:20, 0:01:20.5 and 12.5 s or 3 seconds") == [80, 80.5, 12.5, 3]
