"""What becomes of captions, the ledger and the command when something goes wrong."""

from __future__ import annotations

import json

import pytest

from kinema.captioning.segments import SegmentOptions
from kinema.cli.app import run
from kinema.errors import (
    AccessRefused,
    EngineDied,
    EngineUnreachable,
    KinemaError,
    OutOfMemory,
    RequestRefused,
    Unfinished,
)
from kinema.jobs.inputs import find_inputs
from kinema.jobs.ledger import Ledger
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings
from support.clips import make_audio, make_clip
from support.faulty import FaultyEngine, faulty_model


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(3):
        make_clip(folder / f"{i}.mp4", num_frames=58 + i, fps=10)  # three segments of 2 s
    return folder


class Runs:
    """Runs of one job over a folder, each with an engine that fails as told."""

    def __init__(self, folder, state):
        self.folder, self.state = folder, state
        self.opened = 0
        self.asked = []

    def job(self, before, **changes):
        def note(requests):
            self.asked += requests
            before(requests)

        def make():
            self.opened += 1
            return FaultyEngine(note)

        return CaptionJob(
            inputs=find_inputs([self.folder]),
            state=self.state,
            say=CaptionSettings(model=faulty_model(make), segments=SegmentOptions(batch_size=2)),
            **changes,
        )

    def states(self, job):
        with Ledger(self.state / "videos.sqlite", settings=job.say.record) as ledger:
            return [unit.state for unit in ledger.units()]


@pytest.fixture
def runs(videos, tmp_path):
    return Runs(videos, tmp_path / "state")


def nothing(requests):
    pass


def at_second_segment(problem):
    """Fails wherever the frames between 2 and 4 seconds are shown."""

    def before(requests):
        if any(2 <= m.frames.seconds[0] < 4 for r in requests for m in r.media):
            raise problem

    return before


def test_a_refused_segment_is_a_hole_and_no_answer(runs):
    job = runs.job(at_second_segment(RequestRefused("Too odd.", hint="Leave it out.")))
    job.run()
    for described in job.results():
        record = described.record
        assert record.status == "partial"
        assert [c.error for c in record.captions] == [None, "Too odd. Leave it out.", None]
        assert record.captions[1].text == ""
        assert record.summary
    assert runs.states(job) == ["partial"] * 3


def test_partial_videos_are_tried_again_on_request_and_only_their_holes_are_asked(runs):
    runs.job(at_second_segment(RequestRefused("Too odd."))).run()
    runs.asked.clear()
    runs.job(nothing).run()
    assert runs.asked == []
    again = runs.job(nothing, retry_failed=True)
    again.run()
    shown = [request for request in runs.asked if request.media]
    assert len(shown) == 3
    assert runs.states(again) == ["done"] * 3
    assert all(described.record.status == "ok" for described in again.results())


def test_a_video_without_pictures_is_skipped_and_a_damaged_one_fails(runs, videos):
    make_audio(videos / "sound.mp4")
    (videos / "text.mp4").write_text("this is no video" * 50)
    job = runs.job(nothing)
    job.run()
    statuses = [described.record.status for described in job.results()]
    assert statuses == ["ok", "ok", "ok", "skipped", "failed"]


def test_too_little_memory_for_a_batch_makes_batches_smaller(runs):
    sizes = []

    def before(requests):
        sizes.append(len(requests))
        if len(requests) > 2:
            raise OutOfMemory("The device ran out of memory.")

    job = runs.job(before)
    job.run()
    assert max(sizes) > 2
    assert runs.states(job) == ["done"] * 3
    assert runs.opened == 1


@pytest.mark.parametrize(
    "problem",
    [
        OutOfMemory("The device ran out of memory."),
        EngineDied("The engine died."),
        EngineUnreachable("The server is out of reach."),
        AccessRefused("The server does not accept the key."),
        KinemaError("Something that has no name."),
    ],
)
def test_an_engine_that_fails_half_way_leaves_videos_to_do_and_keeps_answers(runs, problem):
    """Its answered captions are kept, and the same command goes on with them."""

    def before(requests):
        if len(runs.asked) > 6:
            raise problem

    job = runs.job(before)
    with pytest.raises(Unfinished, match="still to do") as stopped:
        job.run()
    assert str(problem) in str(stopped.value)
    assert set(runs.states(job)) <= {"todo", "done"}
    assert "todo" in runs.states(job)
    asked = {id(request.conversation) for request in runs.asked}
    runs.asked.clear()
    whole = runs.job(nothing)
    whole.run()
    assert runs.states(whole) == ["done"] * 3
    assert 0 < len(runs.asked) < len(asked) + 9


def test_the_command_writes_what_is_there_says_what_is_left_and_exits_with_four(
    videos, tmp_path, monkeypatch, capsys
):
    def before(requests):
        if any(m.frames.duration_seconds > 5.95 for r in requests for m in r.media):
            raise EngineUnreachable("The server is out of reach.")

    monkeypatch.setattr(
        "kinema.cli.caption.find_model", lambda *_, **__: faulty_model(lambda: FaultyEngine(before))
    )
    words = ["caption", str(videos), "-o", str(tmp_path / "out"), "--batch-size", "2"]
    assert run(words) == 4
    said = capsys.readouterr().err
    assert "The server is out of reach." in said
    assert "still to do" in said
    # Lists of all videos are written when all have ended; what has ended is in the ledger.
    assert not (tmp_path / "out" / "captions.jsonl").exists()
    fine = lambda *_, **__: faulty_model(lambda: FaultyEngine(nothing))  # noqa: E731
    monkeypatch.setattr("kinema.cli.caption.find_model", fine)
    assert run(words) == 0
    lines = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok"] * 3
