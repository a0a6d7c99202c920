"""What a run says about itself while it goes on."""

from itertools import pairwise

import pytest

from kinema.captioning.segments import SegmentOptions
from kinema.cli.app import run
from kinema.cli.output import JOB_LOG_SECONDS, Status
from kinema.jobs.inputs import find_inputs
from kinema.jobs.ledger import Ledger
from kinema.jobs.progress import Meter
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionSettings
from kinema.tasks.models import find_model
from support.clips import make_clip


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(2):
        make_clip(folder / f"{i}.mp4", num_frames=60, fps=10)  # 6 s: three segments of 2 s
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    return folder


def heard(videos, state):
    """All that a run over some videos tells."""
    told = []
    job = CaptionJob(
        inputs=find_inputs([videos]),
        state=state,
        say=CaptionSettings(model=find_model("echo"), segments=SegmentOptions(batch_size=2)),
    )
    job.run(told.append)
    return told


def test_every_segment_moves_a_lone_video_on(videos, tmp_path):
    begun, *parts, end = heard(videos / "0.mp4", tmp_path / "state")
    assert (begun.ended, begun.of, begun.eta_seconds, begun.unit) == (0, 1, None, None)
    assert [p.video_seconds for p in parts] == pytest.approx([2, 4, 6])
    assert [(p.ended, p.of, p.result) for p in parts] == [(0, 1, None)] * 3
    assert parts[0].eta_seconds > 0
    assert (end.ended, end.eta_seconds) == (1, 0)
    assert end.video_seconds == pytest.approx(6)
    assert end.result["record"]["source"].endswith("0.mp4")


def test_videos_that_end_and_fail_are_counted_once(videos, tmp_path):
    told = heard(videos, tmp_path / "state")
    assert all(one.video_seconds <= two.video_seconds + 1e-6 for one, two in pairwise(told))
    assert (told[-1].ended, told[-1].of, told[-1].failed) == (3, 3, 1)
    (problem,) = [p for p in told if p.problem is not None]
    assert problem.unit.payload["source"].endswith("broken.mp4")


def test_what_earlier_runs_did_is_no_work_of_this_one(videos, tmp_path):
    heard(videos / "0.mp4", tmp_path / "state")
    told = heard(videos, tmp_path / "state")
    assert (told[0].of, told[0].ended) == (3, 1)
    assert told[-1].ended == 3
    assert told[-1].video_seconds == pytest.approx(6)


def test_the_time_left_follows_from_the_share_that_is_described(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("kinema.jobs.progress.time.perf_counter", lambda: clock[0])
    with Ledger(tmp_path / "ledger.sqlite", settings={}) as ledger:
        ledger.add([("c", {"source": "c"})])  # another run's
        ledger.enter((name, {"source": name}) for name in "ab")
        told = []
        meter = Meter(ledger, told.append)
        unit = ledger.claim()
        clock[0] = 110.0
        meter.part(unit, 0.5, video_seconds=5.0)
    (half,) = told
    assert half.of == 2
    assert half.video_seconds == 5.0
    assert half.eta_seconds == pytest.approx(30)  # half of one of two videos took ten seconds


def test_a_terminal_shows_one_line_that_moves(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    words = ["caption", str(videos / "0.mp4"), "-m", "echo", "--batch-size", "2"]
    result = ["--result-path", str(tmp_path / "result.json")]
    assert run([*words, *result]) == 0
    assert "\r0 of 1 videos, 0:04 of video" in capsys.readouterr().err
    assert run([*words, *result, "--quiet", "--force", "--style", "brief"]) == 0
    assert "of video" not in capsys.readouterr().err


def test_a_log_gets_a_line_a_minute(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("kinema.cli.output.time.monotonic", lambda: clock[0])
    status, silent = Status(log_seconds=JOB_LOG_SECONDS), Status()
    for clock[0] in range(0, 150, 10):
        status(f"at {clock[0]}")
        silent(f"also at {clock[0]}")
    assert capsys.readouterr().err == "at 60\nat 120\n"
