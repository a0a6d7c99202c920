"""A follow-up answers what the whole history would, and reads only its own words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.engines import EngineSettings
from kinema.engines.hf.followup import FollowUp
from kinema.messages import Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import prepare
from kinema.tasks.chat import Chat
from support.by_hand import NEW_TOKENS, clip
from support.tiny_families import HF_FAMILIES

QUESTIONS = ("what do you see in this video?", "Why is this <video> funny?", "Is there a rabbit?")
PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)


@pytest.fixture
def chat(family_folder):
    opened = []

    def open_chat(name, keep):
        settings = EngineSettings(device="cpu", dtype="float32", keep_conversations=keep)
        opened.append(Chat(str(family_folder(name)), params=PARAMS, settings=settings))
        return opened[-1]

    yield open_chat
    for session in opened:
        session.close()


def _talk(session, stream=False):
    """The answers to all questions, the video given with the first."""
    tokens = []
    for i, question in enumerate(QUESTIONS):
        media = (VideoPart(clip(1)),) if i == 0 else ()
        if stream:
            *_, answer = session.stream(question, *media)
        else:
            answer = session.ask(question, *media)
        tokens.append(answer.completion.token_ids)
    return tokens


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_answers_equal_those_of_the_whole_history(chat, shown, name):
    assert _talk(chat(name, keep=1)) == _talk(chat(name, keep=0))
    shown(name, "hf", "follow-up")


def test_streamed_answers_too(chat):
    assert _talk(chat("qwen2.5-vl", keep=1), stream=True) == _talk(chat("qwen2.5-vl", keep=0))


class _Watched:
    """Counts how often a method is called, and still calls it."""

    def __init__(self, method):
        self._method = method
        self.calls = []

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self._method(*args, **kwargs)


@pytest.mark.parametrize("name", ["video-llava", "qwen2-vl", "smolvlm"])
def test_frames_are_processed_and_encoded_once(chat, name):
    session = chat(name, keep=1)
    session.ask(QUESTIONS[0], VideoPart(clip(1)))
    engine = session.open()
    base = engine.model.base_model
    names = [n for n in ("get_video_features", "get_image_features") if hasattr(base, n)]
    for method in names:
        setattr(base, method, _Watched(getattr(base, method)))
    engine._maker.make = _Watched(engine._maker.make)
    for question in QUESTIONS[1:]:
        session.ask(question)
    assert not engine._maker.make.calls
    assert not any(getattr(base, method).calls for method in names)


def test_only_the_new_words_are_read(chat):
    session = chat("video-llava", keep=1)
    first = session.ask(QUESTIONS[0], VideoPart(clip(1)))
    forward = session.open().model.forward
    session.open().model.forward = watched = _Watched(forward)
    second = session.ask("why?")
    read = watched.calls[0][1]["input_ids"].shape[1]
    new = second.completion.usage.prompt_tokens - first.completion.usage.prompt_tokens
    assert read <= new


def test_another_video_is_read_anew(chat):
    session, fresh = chat("video-llava", keep=1), chat("video-llava", keep=0)
    session.ask(QUESTIONS[0], VideoPart(clip(1)))
    session.reset()
    ours, theirs = (s.ask(QUESTIONS[0], VideoPart(clip(2))) for s in (session, fresh))
    assert ours.completion.token_ids == theirs.completion.token_ids


def test_a_second_video_joins_the_conversation(chat):
    def talk(session):
        session.ask(QUESTIONS[0], VideoPart(clip(1)))
        session.ask(QUESTIONS[1], VideoPart(clip(2)))
        return session.ask(QUESTIONS[2]).completion.token_ids

    assert talk(chat("llava-onevision", keep=1)) == talk(chat("llava-onevision", keep=0))


def test_the_answer_may_differ_from_what_was_generated(chat):
    """The history is what the conversation says, not what the cache holds."""
    session, fresh = chat("video-llava", keep=1), chat("video-llava", keep=0)
    answers = []
    for each in (session, fresh):
        each.ask(QUESTIONS[0], VideoPart(clip(1)))
        each.conversation = type(each.conversation)(
            (*each.conversation.messages[:-1], Message("assistant", (TextPart("a rabbit"),)))
        )
        answers.append(each.ask(QUESTIONS[1]).completion.token_ids)
    assert answers[0] == answers[1]


def test_a_closed_stream_does_not_spoil_the_next_answer(chat):
    session, fresh = chat("video-llava", keep=1), chat("video-llava", keep=0)
    session.ask(QUESTIONS[0], VideoPart(clip(1)))
    fresh.ask(QUESTIONS[0], VideoPart(clip(1)))
    stream = session.stream(QUESTIONS[1])
    next(stream)
    stream.close()
    ours, theirs = session.ask(QUESTIONS[1]), fresh.ask(QUESTIONS[1])
    assert ours.completion.token_ids == theirs.completion.token_ids


def test_a_follow_up_is_recognised(chat):
    session = chat("video-llava", keep=1)
    session.ask(QUESTIONS[0], VideoPart(clip(1)))
    said = session.conversation + Message("user", (TextPart("why?"),))
    model = session.model
    request = prepare(said, family=model.family, checkpoint=model.checkpoint, params=PARAMS)
    engine = session.open()
    assert isinstance(engine._prepare(request), FollowUp)
    with_floats = replace(request, id="1", params=replace(PARAMS, logprobs=1))
    assert not isinstance(engine._prepare(with_floats), FollowUp)
