"""Reading ranges of time and counts, held to the published list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.evaluation.answers import read_answer
from kinema.evaluation.records import Item, Prediction, Record

HARD = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data/hard_times_and_counts.jsonl")
    .read_text()
    .splitlines()
]


def read(task, reply):
    item = Item(id="0", task=task, question="?", references=("1",))
    return read_answer(Record(item, Prediction(reply=reply))).value


@pytest.mark.parametrize("task", ["span", "count"])
def test_nearly_all_are_read_right_and_none_as_another_number(task):
    cases = [case for case in HARD if case["task"] == task]
    expected = [
        tuple(c["expected"]) if task == "span" and c["expected"] else c["expected"] for c in cases
    ]
    found = [read(task, case["reply"]) for case in cases]
    pairs = list(zip(cases, expected, found, strict=True))
    assert [case for case, want, got in pairs if got not in (want, None)] == []
    assert len([case for case, want, got in pairs if got != want]) <= 0.01 * len(cases)


def test_the_list_is_long_and_has_no_repeats():
    keys = {(case["task"], case["reply"]) for case in HARD}
    assert len(keys) == len(HARD) >= 250
    assert sum(case["expected"] is None for case in HARD) >= 40


def test_a_very_long_reply_is_read_in_time():
    assert read("span", "The man walks on. " * 5000 + "\nIt happens from 3.2 to 8.9 seconds.") == (
        3.2,
        8.9,
    )
    assert read("count", "The man walks on. " * 5000 + "\nThe answer is 3.") == 3
