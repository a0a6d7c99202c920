"""Questions of several callers on the transformers engine: together, apart, given up, too large."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace

import pytest
import torch

from kinema.engines import EngineSettings
from kinema.engines.hf.followup import FollowUp
from kinema.engines.scheduler import Scheduler
from kinema.errors import OutOfMemory, RequestFailed, RequestRefused
from kinema.messages import Ask, Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.tasks.models import find_model

LIMIT = 300


class Serving:
    """A scheduler over a small Video-LLaVA, and the rows of each call of ``generate``."""

    def __init__(self, folder):
        self.model = find_model(str(folder))
        self.rows = []
        self.opened = 0
        self.before = lambda arguments: None
        self.scheduler = Scheduler(
            self.open, family=self.model.family, checkpoint=self.model.checkpoint
        )

    def open(self):
        self.engine = self.model.open(EngineSettings(device="cpu", keep_conversations=2))
        self.opened += 1
        enough = self.engine.model.generate

        def generate(**arguments):
            self.rows.append(len(arguments["input_ids"]))
            self.before(arguments)
            return enough(**arguments)

        self.engine.model.generate = generate
        return self.engine

    def ask_together(self, *asked, on_text=None):
        """Futures of questions that were all there before the engine began."""
        gate = threading.Event()
        held = self.scheduler.call(lambda engine: gate.wait(LIMIT))
        heard = on_text or [None] * len(asked)
        futures = [
            self.scheduler.submit(one, on_text=hear) for one, hear in zip(asked, heard, strict=True)
        ]
        gate.set()
        assert held.result(LIMIT)
        return futures

    def answers(self, *asked):
        return [future.result(LIMIT).completion for future in self.ask_together(*asked)]

    def alone(self, *asked):
        """Each answer on its own, nothing kept of the others."""
        done = []
        for one in asked:
            self.scheduler.call(lambda engine: engine.release()).result(LIMIT)
            done.extend(self.answers(one))
        return done


@pytest.fixture(scope="module")
def opened(video_llava_folder):
    serving = Serving(video_llava_folder)
    yield serving
    serving.scheduler.close()


@pytest.fixture
def serving(opened):
    opened.scheduler.call(lambda engine: engine.release()).result(LIMIT)
    opened.rows.clear()
    opened.before = lambda arguments: None
    return opened


@pytest.fixture
def question(frames):
    def make(number, **params):
        shown = replace(frames, pixels=frames.pixels // (number + 1))
        said = Message("user", (VideoPart(shown), TextPart(f"question {number}")))
        settings = SamplingParams(**{"max_new_tokens": 8, **params})
        return Ask(key=f"{number}", conversation=Conversation((said,)), params=settings)

    return make


def test_questions_that_wait_together_share_a_batch_and_are_answered_as_alone(serving, question):
    asked = [question(i) for i in range(3)]
    alone = serving.alone(*asked)
    serving.rows.clear()
    together = serving.answers(*asked)
    assert serving.rows == [3]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert [c.text for c in together] == [c.text for c in alone]


def test_other_parameters_do_not_share_a_batch(serving, question):
    done = serving.answers(question(0), question(1, max_new_tokens=3), question(2))
    assert serving.rows == [2, 1]
    assert len(done[1].token_ids) <= 3


def test_several_answers_are_streamed_at_once(serving, question):
    pieces = []
    hear = [lambda text, i=i: pieces.append((i, text)) for i in range(2)]
    futures = serving.ask_together(*map(question, range(3)), on_text=[*hear, None])
    done = [future.result(LIMIT).completion for future in futures]
    assert serving.rows == [3]
    for i in range(2):
        assert "".join(text for row, text in pieces if row == i) == done[i].text
        assert 0 < done[i].first_token_seconds <= done[i].seconds
    assert done[2].first_token_seconds is None
    turns = [row for row, _ in pieces]
    assert turns != sorted(turns)  # neither waits for the other to be finished


def test_a_stop_string_ends_one_row_and_is_never_shown(serving, question):
    free = serving.alone(*(question(i) for i in range(2)))
    stop = free[0].text[3:5]
    pieces = []
    futures = serving.ask_together(
        *(question(i, stop=(stop,)) for i in range(2)), on_text=[pieces.append, None]
    )
    first, second = (future.result(LIMIT).completion for future in futures)
    assert "".join(pieces) == first.text == free[0].text.partition(stop)[0].strip()
    assert first.finish_reason == "stop"
    assert first.token_ids == free[0].token_ids[: len(first.token_ids)]
    assert second.text == free[1].text.partition(stop)[0].strip()


def test_a_row_that_has_ended_is_answered_before_the_others(serving, question):
    free = serving.alone(*(question(i) for i in range(2)))
    said, other = free[0].text, free[1].text
    pieces = (said[i : i + length] for length in range(1, 9) for i in range(len(said)))
    stop = next(piece for piece in pieces if piece.strip() and piece not in other)
    futures, first_is_done = [], []
    gate = threading.Event()
    held = serving.scheduler.call(lambda engine: gate.wait(LIMIT))
    futures.append(serving.scheduler.submit(question(0, stop=(stop,))))
    hear = lambda text: first_is_done.append(futures[0].done())  # noqa: E731
    futures.append(serving.scheduler.submit(question(1, stop=(stop,)), on_text=hear))
    gate.set()
    assert held.result(LIMIT)
    assert stop not in futures[0].result(LIMIT).completion.text
    assert futures[1].result(LIMIT).completion.text == free[1].text
    assert first_is_done.count(True) > 1, first_is_done  # it is done while the other is written


def test_log_probabilities_run_alone(serving, question):
    asked = [question(i, logprobs=2) for i in range(2)]
    done = serving.answers(*asked)
    assert serving.rows == [1, 1]
    assert [c.logprobs for c in done] == [c.logprobs for c in serving.alone(*asked)]
    for completion in done:
        assert len(completion.logprobs) == len(completion.token_ids)
        assert all(len(token.alternatives) == 2 for token in completion.logprobs)


def test_a_caller_that_leaves_in_the_middle_hears_no_more_and_the_others_finish(serving, question):
    (expected,) = serving.alone(question(0))
    pieces, futures = [], []

    def leave(text):
        pieces.append(text)
        futures[1].cancel()

    gate = threading.Event()
    held = serving.scheduler.call(lambda engine: gate.wait(LIMIT))
    futures.append(serving.scheduler.submit(question(0)))
    futures.append(serving.scheduler.submit(question(1), on_text=leave))
    gate.set()
    assert held.result(LIMIT)
    assert futures[0].result(LIMIT).completion.token_ids == expected.token_ids
    assert futures[1].cancelled()
    assert len(pieces) == 1


def test_a_follow_up_alone_goes_on_from_what_was_read(serving, question):
    first = question(0)
    (done,) = serving.answers(first)
    said = (
        first.conversation
        + Message("assistant", (TextPart(done.text),))
        + Message("user", (TextPart("and then?"),))
    )
    again = replace(first, key="again", conversation=said)
    taken = []
    take = serving.engine._take
    serving.engine._take = lambda request, **how: taken.append(take(request, **how)) or taken[-1]
    (followed,) = serving.answers(again)
    del serving.engine._take
    assert isinstance(taken[0], FollowUp)
    assert followed.token_ids == serving.alone(again)[0].token_ids


def test_a_batch_that_finds_no_memory_runs_in_halves(serving, question):
    asked = [question(i) for i in range(4)]
    expected = [c.token_ids for c in serving.alone(*asked)]
    serving.rows.clear()
    serving.before = _memory_for(rows=2)
    assert [c.token_ids for c in serving.answers(*asked)] == expected
    assert serving.rows == [4, 2, 2]


def test_a_question_alone_too_large_is_blamed_when_others_were_answered(serving, question):
    small, large = question(0), question(1, max_new_tokens=7)
    serving.before = _memory_for(tokens=7)
    first, second = serving.ask_together(large, small)
    assert second.result(LIMIT).completion.token_ids
    problem = first.exception(LIMIT)
    assert isinstance(problem, RequestFailed)
    assert "quantization" in problem.hint


def test_a_device_that_is_too_small_is_reported_with_advice(serving, question):
    serving.before = _memory_for(rows=0)
    problems = [f.exception(LIMIT) for f in serving.ask_together(question(0), question(1))]
    assert [type(problem) for problem in problems] == [OutOfMemory, OutOfMemory]
    assert "quantization" in problems[0].hint


def _memory_for(*, rows=8, tokens=0):
    """Fails above so many rows, and where so many tokens are wanted."""

    def check(arguments):
        wanted = arguments["generation_config"].max_new_tokens
        if len(arguments["input_ids"]) > rows or wanted == tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return check


def test_what_failed_holds_no_memory_while_it_is_tried_again(serving, question):
    made = []

    def fail_once(arguments):
        if not made:
            activations = torch.ones(1000)
            made.append(weakref.ref(activations))
            made.extend(weakref.ref(v) for v in arguments.values() if torch.is_tensor(v))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        alive.extend(ref() is not None for ref in made)

    alive = []
    serving.before = fail_once
    assert len(serving.answers(question(0), question(1))) == 2
    assert len(made) >= 4
    assert not any(alive)


def test_what_the_model_refuses_falls_on_the_guilty_question(serving, question):
    def refuse(arguments):
        if arguments["generation_config"].max_new_tokens == 7:
            raise ValueError("The model takes no seven tokens.")

    serving.before = refuse
    good, bad = serving.ask_together(question(0), question(1, max_new_tokens=7))
    assert good.result(LIMIT).completion.token_ids
    problem = bad.exception(LIMIT)
    assert isinstance(problem, RequestRefused)
    assert "no seven tokens" in str(problem)


def test_a_lost_device_is_told_from_a_refusal(serving, question):
    """The engine is opened again; what was asked is answered by the new one."""
    (expected,) = serving.alone(question(0))
    opened, lost = serving.opened, []

    def lose_once(arguments):
        if not lost:
            lost.append(0)
            raise RuntimeError("CUDA error: device-side assert triggered")

    serving.before = lose_once
    (again,) = serving.answers(question(0))
    assert serving.opened == opened + 1
    assert again.token_ids == expected.token_ids
