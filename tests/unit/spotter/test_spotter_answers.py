"""Questions to sentences, on class probabilities written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.models.spotter.labels import DOUBTFUL, KINDS, LABELS, NAMES, find_mentions, vocabulary
from kinema.models.spotter.sentences import ABOUT, NO_MEDIA, UNABLE, answer
from kinema.models.spotter.sightings import Clip, find_sightings


def clip(*frames: dict[str, float], kind: str = "video") -> Clip:
    """A clip of one frame a second; both views agree on what is in each."""
    views = np.zeros((len(frames), 2, len(LABELS)), np.float32)
    for row, seen in zip(views, frames, strict=True):
        for name, likely in seen.items():
            (index,) = vocabulary()[name].classes
            row[:, index] = likely
    clock = np.arange(len(frames), dtype=np.float64)
    return Clip(
        kind, views, clock, (640, 480), total_frames=100, duration_seconds=float(len(frames))
    )


BANANA_THEN_PIZZA = clip({"banana": 0.9}, {"banana": 0.6}, {"pizza": 0.8}, {"pizza": 0.7})
BANANA, PIZZA = "a banana from 0.0 to 1.0 s", "a pizza from 2.0 to 3.0 s"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What happens?", f"I recognised {BANANA}, then {PIZZA}."),
        ("hello, what do you see", f"I recognised {BANANA}, then {PIZZA}."),
        ("Is there a banana?", f"Yes: I recognised {BANANA}."),
        ("Isn't there a banana?", f"I recognised {BANANA}."),
        ("Do you see bananas?", f"Yes: I recognised {BANANA}."),
        ("Which fruit is it?", f"I recognised {BANANA}."),
        ("What kind of food do you see?", f"I recognised {BANANA}, then {PIZZA}."),
        ("What is he eating?", f"I recognised {BANANA}, then {PIZZA}."),
        ("When do you see the pizza?", f"I recognised {PIZZA}."),
        ("What comes first?", f"The first thing that I recognised is {BANANA}."),
        ("What do you see last?", f"The last thing that I recognised is {PIZZA}."),
        ("What comes after the banana?", f"After {BANANA} I recognised {PIZZA}."),
        ("What is before the banana?", f"Before {BANANA} I recognised nothing else."),
        ("Does the pizza come before the banana?", f"First I recognised {BANANA}, then {PIZZA}."),
        ("Is there a green banana?", f"I recognised {BANANA}, and cannot tell more about it."),
        ("How many bananas are there?", f"I recognised {BANANA}, and cannot tell more about it."),
        ("Why is there a banana?", f"I recognised {BANANA}, and cannot tell more about it."),
        ("What is at 0:03?", "Near 3.0 s: I recognised a pizza from 2.0 to 3.0 s."),
        ("How does it begin?", "Near 0.0 s: I recognised a banana from 0.0 to 1.0 s."),
        ("Is there a pizza at the start?", f"I recognised {PIZZA} only."),
        (
            "What happens at 40 s?",
            "The video ends at 4.0 s, and near its end: I recognised a pizza",
        ),
        ("How long is the video?", "The video is 4.0 s long."),
        ("How long is the pizza visible?", f"I recognised {PIZZA}."),
        ("How many frames did you see?", "I looked at 4 of 100 frames from 0.0 to 3.0 s."),
        ("Is there a dog?", "I did not recognise a dog in 4 of 100 frames"),
        ("Is there a lemon?", f"I recognised {BANANA}. I did not recognise a lemon."),
        ("Is there a person?", 'I cannot tell: "person" is none of the 1,000 kinds'),
        ("What colour is it?", UNABLE),
        ("Why is the man laughing?", UNABLE),
        ("What is the capital of France?", UNABLE),
        ("Write me a poem.", UNABLE),
        ("Was ist das für ein Film?", UNABLE),
        ("¿Hay una banana?", UNABLE),
        ("что на видео?", UNABLE),
        ("Hello", ABOUT),
        ("hi there!", ABOUT),
        ("What can you do?", ABOUT),
    ],
)
def test_a_question_gets_the_answer_that_the_frames_support(question, said):
    assert answer([question], [BANANA_THEN_PIZZA]).startswith(said)


def test_a_follow_up_without_a_name_means_what_was_named_before():
    said = ["Is there a pizza?", "And a banana?", "When?"]
    answers = [answer(said[:i], [BANANA_THEN_PIZZA]) for i in (1, 2)]
    assert answer(said, [BANANA_THEN_PIZZA], answers) == f"I recognised {BANANA}."
    at = ["What is the last thing?", "What time is it at?"]
    assert answer(at, [BANANA_THEN_PIZZA], [f"It is {PIZZA}."]) == f"I recognised {PIZZA}."


def test_what_is_unsure_is_hedged():
    unsure = clip({"banana": 0.4}, {"banana": 0.3})
    assert "There may be a banana at 0.0 s" in answer(["What happens?"], [unsure])
    assert answer(["Is there a banana?"], [unsure]).startswith("I am not sure: there may be")


def test_one_frame_among_several_and_views_that_disagree_are_not_enough():
    once = clip({}, {"banana": 0.6}, {})
    assert [s.sure for s in find_sightings(once)] == [False]
    apart = clip({"banana": 0.9}, {"banana": 0.9})
    apart.views[:, 1] *= 0.3
    assert find_sightings(apart) == []


def test_labels_that_share_a_kind_are_named_by_it():
    cars = clip({"minivan": 0.4, "taxi": 0.3}, {"minivan": 0.4, "taxi": 0.3})
    sighting = find_sightings(cars)[0]
    assert (sighting.concept.name, sighting.sure) == ("car", True)
    said = answer(["Is there a convertible?"], [cars])
    assert (
        said == "I recognised a car from 0.0 to 1.0 s, and cannot tell whether it is a convertible."
    )


def test_many_faint_guesses_are_no_evidence():
    faint = clip(*[{label.name.lower(): 0.1 for label in LABELS[8:16]}] * 2)
    assert find_sightings(faint) == []
    birds = {"albatross": 0.35, "pelican": 0.15, "goose": 0.15}
    assert find_sightings(clip(birds, birds))[0].concept.name == "bird"


def test_what_the_network_says_of_drawings_and_dark_pictures_is_never_sure():
    for i in DOUBTFUL:
        views = np.zeros((3, 2, len(LABELS)), np.float32)
        views[:, :, i] = 1
        assert not any(s.sure for s in find_sightings(Clip("video", views, np.arange(3.0)))), NAMES[
            i
        ]


def test_each_of_several_media_is_answered_by_its_own_name():
    two = [clip({"banana": 0.9}, {"banana": 0.9}), clip({"pizza": 0.9}, kind="picture")]
    said = answer(["What do you see?"], two)
    assert (
        said == "Video 1: I recognised a banana from 0.0 to 1.0 s. Picture 1: I recognised a pizza."
    )
    assert answer(["Why?"], two) == UNABLE


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What is shown?\nA. a dog\nB. a pizza\nC. a car\nAnswer with the letter.", "B. a pizza"),
        ("What comes first?\n(A) a pizza\n(B) a banana", "B. a banana"),
        ("What comes last?\n(A) a pizza\n(B) a banana", "A. a pizza"),
        ("What is shown?\n(A) a pizza\n(B) a banana", UNABLE),
        ("What is shown?\n(A) a dog\n(B) a car", UNABLE),
    ],
)
def test_of_several_options_the_one_that_was_recognised_is_picked(question, said):
    assert answer([question], [BANANA_THEN_PIZZA]) == said


def test_without_media_it_asks_for_some():
    assert answer(["What happens?"], []) == NO_MEDIA


@pytest.mark.parametrize("verb", ["Did you watch it?", "Can you fly?", "Does he drink?"])
def test_verbs_are_no_things(verb):
    assert find_mentions(verb)[0] == []


def test_every_label_is_found_by_its_own_name():
    lost = {
        names[0]
        for i, names in enumerate(NAMES)
        if i not in {c for m in find_mentions(f"is there a {names[0]}")[0] for c in m.classes}
    }
    # These words mean something else in everyday life.
    assert lost == {"kite", "lighter", "pole", "stage", "safe", "chest", "tub", "reel"}


def test_kinds_hold_classes_of_the_table_and_the_table_is_whole():
    assert len(LABELS) == 1000
    assert all(0 <= c < 1000 for kind in KINDS for c in kind.classes)
    assert {NAMES[0][0], NAMES[281][0], NAMES[999][0]} == {"tench", "tabby", "toilet paper"}
