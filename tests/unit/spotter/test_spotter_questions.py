"""Sixty questions over six real clips, with what a person finds of each answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from kinema.messages import VideoPart
from kinema.tasks.chat import Chat
from support.spotting import Asked, asked, frames_of

ASKED = asked()


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with Chat("spotter") as session:
        yield session


@pytest.mark.parametrize("one", ASKED, ids=[f"{one.clip}: {one.question}" for one in ASKED])
def test_the_answer_is_the_one_that_was_judged(chat: Chat, one: Asked):
    chat.reset()
    assert str(chat.ask(one.question, VideoPart(frames_of(one.clip)))) == one.answer


def test_most_answers_are_right_and_few_are_declined():
    found = Counter(one.verdict for one in ASKED)
    assert len(ASKED) == 60
    assert found["right"] >= 45
    assert found["declined"] <= 12
    assert set(found) == {"right", "unsure", "declined"}


def test_what_is_judged_unsure_says_so_and_what_is_declined_names_a_model():
    for one in ASKED:
        is_unsure = "may be" in one.answer
        assert not (one.verdict == "unsure" and not is_unsure), one
        assert ("--model" in one.answer) == (
            one.verdict == "declined" or "who are you" in one.question
        ), one


def test_it_never_says_no():
    assert not [one for one in ASKED if one.answer.lower().startswith("no")]
