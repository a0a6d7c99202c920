"""Questions to sentences, on class probabilities written by hand."""

import itertools
import re

import numpy as np
import pytest

from kinema.models.tiny.answers import answer
from kinema.models.tiny.labels import KINDS, LABELS, VOCABULARY, find_mentions
from kinema.models.tiny.sightings import Clip, find_sightings


def clip(*frames: dict[str, float], kind: str = "video", seconds: bool = True) -> Clip:
    probabilities = np.zeros((len(frames), len(LABELS)), np.float32)
    for row, seen in zip(probabilities, frames, strict=True):
        for name, likely in seen.items():
            (index,) = VOCABULARY[name].classes
            row[index] = likely
    clock = np.arange(len(frames), dtype=np.float64) if seconds else np.full(len(frames), np.nan)
    return Clip(kind, probabilities, clock)


def sentences(*turns: str, clips: list[Clip]) -> list[str]:
    return ["".join(choice) for choice in itertools.product(*answer(turns, clips))]


BANANA_THEN_PIZZA = clip({"banana": 0.9}, {"banana": 0.3}, {"pizza": 0.8})


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "What happens?",
            r"(The|This) video shows a banana from 0.0 to 1.0 s, .* a pizza at 2.0 s\.",
        ),
        ("Is there a banana?", r"Yes, (I see|there is) a banana from 0.0 to 1.0 s\."),
        ("Do you see any fruit?", r"Yes, (I see|there is) a fruit from 0.0 to 1.0 s\."),
        ("Is there a dog?", r"No, .* a dog\."),
        ("When do you see the pizza?", r"I see a pizza at 2.0 s\."),
        ("What comes first?", r".*first.* a banana from 0.0 to 1.0 s\."),
        ("What do you see last?", r".*last.* a pizza at 2.0 s\."),
        ("What comes after the banana?", r"After a banana .* a pizza at 2.0 s\."),
        ("Does the pizza come before the banana?", r"First .* a banana .* a pizza at 2.0 s\."),
        ("Is there a green banana?", r"I see a banana .*, and can not tell more about it\."),
        ("How many bananas are there?", r".*can not tell\. .*single frames.*"),
        ("What colour is the banana?", r".*can not tell\. .*"),
        ("Why is the man laughing?", r".*can not tell\. .*"),
        ("Hello!", r".*can not tell\. .*"),
        ("What does the man eat?", r"(All|I can only).* a banana .*"),
    ],
)
def test_a_question_gets_the_answer_that_the_frames_support(question, expected):
    said = sentences(question, clips=[BANANA_THEN_PIZZA])
    assert any(re.fullmatch(expected, s) for s in said), said
    assert not {m.name for s in said for m in find_mentions(s)[0]} - {
        "banana", "pizza", "fruit", "dog",
    }  # fmt: skip


def test_a_follow_up_without_a_name_means_what_was_named_before():
    turns = ("Is there a pizza?", "Yes, I see a pizza at 2.0 s.", "When do you see it?")
    assert "I see a pizza at 2.0 s." in sentences(*turns, clips=[BANANA_THEN_PIZZA])


def test_what_is_unsure_is_hedged():
    unsure = clip({"banana": 0.3})
    assert all("may" in s or "aybe" in s for s in sentences("What happens?", clips=[unsure]))
    assert not any("Yes" in s for s in sentences("Is there a banana?", clips=[unsure]))


def test_labels_that_share_a_kind_are_named_by_it():
    cars = clip({"minivan": 0.3, "cab": 0.3})
    (sighting,) = find_sightings(cars)
    assert (sighting.concept.name, sighting.sure) == ("car", True)
    said = sentences("Is there a convertible?", clips=[cars])
    assert said == ["I see a car, and can not tell whether it is a convertible."]


def test_many_faint_guesses_are_no_evidence():
    faint = clip({label.name.lower(): 0.1 for label in LABELS[15:21]})
    assert find_sightings(faint) == []


def test_a_sure_thing_is_followed_through_weaker_frames():
    seen = find_sightings(clip({"banana": 0.3}, {"banana": 0.9}, {"banana": 0.1}, {"banana": 0.3}))
    assert [(s.concept.name, s.frames, s.sure) for s in seen] == [("banana", (0, 1, 3), True)]


def test_nothing_recognised_is_said_so():
    said = sentences("What happens in this video?", clips=[clip({}, {})])
    assert all("nothing" in s for s in said)


def test_without_media_the_model_asks_for_some():
    assert all("no video" in s for s in sentences("What happens?", clips=[]))


def test_each_of_several_media_is_answered_by_its_own_name():
    two = [clip({"banana": 0.9}), clip({"pizza": 0.9}, kind="picture")]
    said = sentences("What do you see?", clips=two)
    assert all(re.fullmatch(r"Video 1: .* a banana\. Picture 1: .* a pizza\.", s) for s in said)


def test_unknown_times_are_not_made_up():
    untimed = clip({"banana": 0.9}, {"pizza": 0.9}, seconds=False)
    assert not any(re.search(r"\d", s) for s in sentences("What happens?", clips=[untimed]))


def test_no_alternative_begins_another():
    questions = ["What happens?", "Is there a banana?", "Hello", "What is first?", "a dog?"]
    clips = [BANANA_THEN_PIZZA, clip({"banana": 0.3})]
    for question in questions:
        for choice in answer([question], clips):
            assert not [1 for a, b in itertools.permutations(choice, 2) if a.startswith(b)]


def test_mentions_prefer_the_longest_name_and_know_plurals():
    found, rest = find_mentions("Are there school buses, bananas or a tram?")
    assert [m.name for m in found] == ["school bus", "banana", "tram"]
    assert rest == ["are", "there", "or", "a"]


def test_kinds_hold_known_classes_and_name_no_two_things():
    assert all(0 <= i < len(LABELS) for kind in KINDS for i in kind.classes)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
