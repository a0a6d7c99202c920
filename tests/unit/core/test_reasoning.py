"""What a model thinks is no part of its answer, in whichever marks it comes and however cut."""

from __future__ import annotations

import pytest

from kinema.captioning.segments import SegmentOptions
from kinema.engines import EngineSettings
from kinema.jobs.inputs import find_inputs
from kinema.messages import Ask, Completion, Conversation, SamplingParams, TextPart
from kinema.reasoning import AnswerStream, opens_reasoning, separate
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings
from support.clips import make_clip
from support.scripted import ScriptedModel

REPLIES = [
    ("<think>\nA dog? No.\n</think>\n\nA cat.", "A cat.", "A dog? No."),
    ("<think>\n\n</think>\n\nA cat.", "A cat.", ""),
    ("A dog? No.\n</think>\n\nA cat.", "A cat.", "A dog? No."),
    ("<think>A dog? No", "", "A dog? No"),
    ("<Think>A dog?</Think> A cat.", "A cat.", "A dog?"),
    ("<thinking>A dog?</thinking>A cat.", "A cat.", "A dog?"),
    ("<think>A dog?</think><answer>A cat.</answer>", "A cat.", "A dog?"),
    ("<think>A dog?</think>\n<answer>\nA cat", "A cat", "A dog?"),
    ("<answer>A cat.</answer>", "<answer>A cat.</answer>", ""),
    (
        "<think>A dog?</think><answer>It is <|begin_of_box|>B<|end_of_box|></answer>",
        "It is B",
        "A dog?",
    ),
    ("<|begin_of_box|>B<|end_of_box|>", "B", ""),
    ("◁think▷A dog?◁/think▷A cat.", "A cat.", "A dog?"),
    ("[THINK]A dog?[/THINK]A cat.", "A cat.", "A dog?"),
    ("<seed:think>A dog?</seed:think>A cat.", "A cat.", "A dog?"),
    ("<analysis>Easy. /no_think</analysis>A cat.", "A cat.", "Easy. /no_think"),
    ("<|channel>thought\nA dog?<channel|>A cat.", "A cat.", "thought\nA dog?"),
    (
        "<|channel|>analysis<|message|>A dog?<|end|><|start|>assistant<|channel|>final<|message|>"
        "A cat.",
        "A cat.",
        "A dog?",
    ),
    (
        "<|begin_of_thought|>A dog?<|end_of_thought|>\n<|begin_of_solution|>A cat."
        "<|end_of_solution|>",
        "A cat.",
        "A dog?",
    ),
    ("B <think>as the dog sits</think>", "B", "as the dog sits"),
    ("A cat on <b> a mat, 2 < 3 [THIN", "A cat on <b> a mat, 2 < 3 [THIN", ""),
    ("A cat.", "A cat.", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("reply", "answer", "reasoning"), REPLIES)
def test_the_answer_stands_behind_the_reasoning(reply, answer, reasoning):
    said = separate(reply)
    assert (said.answer, said.reasoning) == (answer, reasoning)
    assert separate(said.answer).answer == answer


@pytest.mark.parametrize(("reply", "answer", "reasoning"), REPLIES)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_stream_shows_the_answer_alone(reply, answer, reasoning, size):
    stream = AnswerStream()
    pieces = [stream.add(reply[at : at + size]) for at in range(0, len(reply), size)]
    said = "".join(pieces)
    if reply.startswith("A dog? No.\n</think>"):
        # The closing mark came too late for what was shown.
        assert " ".join(said.split()) == "A dog? No. A cat."
        return
    assert said + stream.rest(answer) == answer
    assert all(piece == piece.rstrip() for piece in pieces)


def test_a_prompt_that_opens_the_reasoning_leaves_only_the_closing_mark():
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert separate("A dog? No.", opened=True).answer == ""
    assert separate("A dog?</think>A cat.", opened=True).answer == "A cat."
    stream = AnswerStream(opened=True)
    assert [stream.add(piece) for piece in ("A dog", "?</thi", "nk>\n\nA", " cat.")] == [
        *("", "", "A", " cat.")
    ]


def test_marks_in_the_strings_of_a_json_answer_are_text():
    reply = '{"sign": "<think> twice </think>"}'
    assert separate(reply, is_json=True).answer == reply
    stream = AnswerStream(is_json=True)
    assert "".join(map(stream.add, reply)) == reply
    thought = separate(f"<think>hm</think>{reply[:1]}}}", is_json=True)
    assert thought.answer == "{}"


THOUGHT = "<think>\nThe user wants a caption.\n</think>\n\n"


def test_every_engine_hands_over_the_answer_and_the_reasoning():
    model = ScriptedModel(lambda request: THOUGHT + "A cat sits.")
    scheduler = model.scheduler(EngineSettings())
    conversation = Conversation.asked(TextPart("What?"))
    try:
        heard: list[str] = []
        ask = Ask(key="1", conversation=conversation, params=SamplingParams())
        said = scheduler.submit(ask, on_text=heard.append).result(20).completion
    finally:
        scheduler.close()
    assert (said.text, said.reasoning) == ("A cat sits.", "The user wants a caption.")
    assert "".join(heard) == "A cat sits."


def test_reasoning_that_took_all_tokens_is_told():
    model = ScriptedModel(lambda request: Completion(request.id, "<think>\nHm, so", "length"))
    scheduler = model.scheduler(EngineSettings())
    try:
        ask = Ask(key="1", conversation=Conversation.asked(TextPart("What?")))
        said = scheduler.submit(ask).result(20)
    finally:
        scheduler.close()
    assert (said.completion.text, said.completion.reasoning) == ("", "Hm, so")
    assert "raise max_new_tokens" in said.note


def test_captions_titles_and_summaries_hold_no_reasoning(tmp_path):
    make_clip(tmp_path / "a.mp4", num_frames=58, fps=10)
    model = ScriptedModel(lambda request: THOUGHT + "A grey cat sits on a mat.")
    say = CaptionSettings(model=model, segments=SegmentOptions(batch_size=2))
    job = CaptionJob(inputs=find_inputs([tmp_path / "a.mp4"]), state=tmp_path / "state", say=say)
    job.run()
    (record,) = (described.record for described in job.results())
    assert {caption.text for caption in record.captions} == {"A grey cat sits on a mat."}
    said = [record.title, record.summary_text, *(chapter.title for chapter in record.chapters)]
    assert all("think" not in text and "wants" not in text for text in said)
    assert record.title
