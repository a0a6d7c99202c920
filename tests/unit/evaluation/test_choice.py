"""Reading which option a reply picks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.evaluation.choice import LETTERS, parse_choice

HARD_REPLIES = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data/hard_replies.jsonl").read_text().splitlines()
]
OPTIONS = ["walking the dog", "cooking dinner", "playing the guitar", "reading a book"]


def read(reply: str, options: list[str] = OPTIONS, *, lettered: bool = True) -> str | None:
    index = parse_choice(reply, options, lettered=lettered).index
    return None if index is None else LETTERS[index]


def test_nearly_all_hard_replies_are_read_right_and_none_as_what_it_does_not_pick():
    readings = [
        (case, read(case["reply"], case["options"], lettered=case.get("lettered", True)))
        for case in HARD_REPLIES
    ]
    missed = [case for case, letter in readings if letter != case["expected"]]
    wrong = [case for case, letter in readings if letter not in (case["expected"], None)]
    assert wrong == []
    assert len(missed) <= 0.01 * len(readings), missed


def test_every_hard_reply_names_where_it_was_seen():
    sources = {case["source"] for case in HARD_REPLIES}
    assert all(
        source.startswith(("https://", "simple-evals, issue ", "kinema: ")) for source in sources
    )
    assert sum(source.startswith("https://") for source in sources) >= 15


@pytest.mark.parametrize(
    "case",
    [case for case in HARD_REPLIES if case["source"] == "kinema: first list"],
    ids=lambda case: case["reply"][:40],
)
def test_a_hard_reply_is_read_as_the_published_list_says(case):
    letter = read(case["reply"], case["options"], lettered=case.get("lettered", True))
    assert letter == case["expected"]


def test_the_published_list_is_long_and_has_no_repeats():
    keys = {(case["reply"], tuple(case["options"])) for case in HARD_REPLIES}
    assert len(keys) == len(HARD_REPLIES) >= 600
    assert sum(case["expected"] is None for case in HARD_REPLIES) >= 60


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize("frame", ["{}", "({})", "{}.", "The answer is {}.", "Option {}", "**{}**"])
def test_every_plain_form_of_a_letter_is_read_in_both_cases(letter, frame):
    assert read(frame.format(letter)) == letter
    assert read(frame.format(letter.lower())) == letter


@pytest.mark.parametrize("letter", "EFGHIJ")
def test_a_letter_beyond_the_options_is_unparsed(letter):
    for frame in ("{}", "({})", "The answer is {}.", "{}. something"):
        assert read(frame.format(letter)) is None


def test_a_letter_before_another_options_words_is_a_contradiction():
    assert read("B. playing the guitar") is None
    assert read("The answer is (B): playing the guitar") is None


def test_options_shown_without_letters_are_read_by_their_words_alone():
    assert read("B", lettered=False) is None
    assert read("He is cooking dinner.", lettered=False) == "B"


def test_parsing_is_the_same_whatever_the_order_of_calls():
    replies = [case["reply"] for case in HARD_REPLIES]
    forwards = [read(reply) for reply in replies]
    assert [read(reply) for reply in reversed(replies)] == forwards[::-1]


def test_a_very_long_reply_is_read_in_time():
    assert read("The man walks on. " * 5000 + "\nThe answer is (C).") == "C"
