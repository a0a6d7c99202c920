"""A site: what is known is not asked, what is asked twice is answered once."""

from __future__ import annotations

import asyncio
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.engines import EngineSettings
from kinema.errors import MediaNotFound, RequestFailed, SchemaMisfit, UsageError
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import Local
from kinema.messages import Ask, Conversation, Message, Reply, SamplingParams, TextPart, VideoPart
from kinema.types import FrameSampling
from kinema.video import Workers
from support.clips import make_clip
from support.faulty import FaultyEngine, faulty_model


@pytest.fixture
def video(tmp_path):
    return str(make_clip(tmp_path / "clip.mp4", num_frames=20, fps=10))


def ask(video, words, key=None, **params):
    parts = (VideoPart(video, FrameSampling(num_frames=4), name="my clip"), TextPart(words))
    return Ask(
        key=key or words,
        conversation=Conversation((Message("user", parts),)),
        params=SamplingParams(**params),
    )


@contextmanager
def site(answers=None, before=lambda requests: None):
    model = faulty_model(lambda: FaultyEngine(before))
    with (
        closing(model.scheduler(EngineSettings())) as scheduler,
        Workers(1) as workers,
        closing(Local(scheduler, workers, family=model.family, answers=answers)) as local,
    ):
        yield local


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def test_a_reply_says_what_was_shown_and_sent_and_travels_without_pixels(video):
    with site() as local:
        reply = run(local.answer(ask(video, "What moves?")))
    (shown,) = reply.shown
    assert shown.about["source"] == "my clip"
    assert shown.about["num_frames"] == 4
    assert shown.indices == (2, 7, 12, 17)
    assert "What moves?" in reply.prompt
    assert reply.completion.text.startswith("[video 4 frames")
    assert Reply.from_dict(reply.to_dict()) == reply


def test_what_is_known_is_not_asked_again(video, tmp_path):
    asked = []
    with AnswerCache(tmp_path / "answers.sqlite") as answers:
        with site(answers, before=asked.extend) as local:
            first = run(local.answer(ask(video, "What?")))
        with site(answers, before=asked.extend) as local:
            second = run(local.answer(ask(video, "What?")))
            assert local.clips.num_decodes == 0
    assert first == second
    assert len(asked) == 1


def test_two_that_ask_the_same_wait_for_one_answer(video):
    asked = []

    async def both(local):
        one, two = await asyncio.gather(*(local.answer(ask(video, "What?")) for _ in range(2)))
        return one is two

    with site(before=asked.extend) as local:
        assert run(both(local))
    assert len(asked) == 1


def test_one_that_leaves_does_not_take_the_answer_from_the_other(video):
    async def leave_one(local):
        leaver = asyncio.create_task(local.answer(ask(video, "What?")))
        stayer = asyncio.create_task(local.answer(ask(video, "What?")))
        await asyncio.sleep(0)
        leaver.cancel()
        return (await stayer).completion.finish_reason

    with site() as local:
        assert run(leave_one(local)) == "stop"


def test_a_failure_is_no_answer_to_keep(video, tmp_path):
    refused = [RequestFailed("not today")]

    def before(requests):
        if refused:
            raise refused.pop()

    with AnswerCache(tmp_path / "answers.sqlite") as answers, site(answers, before) as local:
        with pytest.raises(RequestFailed, match="not today"):
            run(local.answer(ask(video, "What?")))
        assert answers.get("What?") is None


def test_an_answer_that_is_not_the_json_that_was_asked_for_is_no_answer(video, tmp_path):
    schema = '{"type": "object"}'

    class Prose(FaultyEngine):
        """Says what it likes, as a server may that ignores a schema."""

        def _answer(self, request, inbox):
            plain = replace(request.params, json_schema=None)
            super()._answer(replace(request, params=plain), inbox)

    model = faulty_model(lambda: Prose(lambda requests: None))
    with (
        AnswerCache(tmp_path / "answers.sqlite") as answers,
        closing(model.scheduler(EngineSettings())) as scheduler,
        Workers(1) as workers,
        closing(Local(scheduler, workers, family=model.family, answers=answers)) as local,
    ):
        with pytest.raises(SchemaMisfit):
            run(local.answer(ask(video, "What?", json_schema=schema)))
        assert answers.get("What?") is None


def test_answers_of_the_first_version_are_refused_by_name(tmp_path):
    path = tmp_path / "answers.sqlite"
    import sqlite3

    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE answer (id TEXT PRIMARY KEY, value TEXT NOT NULL)")
    with pytest.raises(UsageError, match=r"answers\.sqlite was written by another version"):
        AnswerCache(Path(path))


def test_a_copy_that_is_gone_does_not_fail_the_files_that_are_there(video, tmp_path):
    async def all_three(local):
        files = (str(tmp_path / "gone.mp4"), video, video)
        asked = (local.answer(ask(file, "What moves?", key="of the bytes")) for file in files)
        return await asyncio.gather(*asked, return_exceptions=True)

    with site() as local:
        gone, first, second = run(all_three(local))
    assert isinstance(gone, MediaNotFound)
    assert first.completion.text.startswith("[video 4 frames")
    assert second == first
