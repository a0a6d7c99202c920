"""What becomes of videos, the ledger and the index when something goes wrong."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinema.cli.app import run
from kinema.errors import (
    DecoderCrashed,
    EngineDied,
    KinemaError,
    OutOfMemory,
    RequestRefused,
    Unfinished,
)
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.models.videolm.features import load_features
from kinema.tasks.features.extraction import Extraction
from kinema.tasks.features.inputs import find_media
from kinema.tasks.features.job import FeaturesJob
from kinema.tasks.features.options import FeatureOptions
from kinema.types import FrameSampling
from kinema.video import Workers
from support.clips import make_clip
from support.towers import make_clip as make_clip_folder

POISON = 7
"""Width in frames of the video that towers fail at: nobody else has so many."""

Before = Callable[[NDArray[np.uint8], int], None]
"""Called with the frames of a video and how many go together; raises what the tower does."""


class FaultyTower:
    """Rows of ones; notes which thread uses it."""

    def __init__(self, before: Before) -> None:
        self._before = before
        self.threads = {threading.get_ident()}
        self.batch_sizes: list[int] = []
        self.released = 0

    def encode(self, pixels: NDArray[np.uint8], variant: str, *, batch_size: int) -> torch.Tensor:
        self.threads.add(threading.get_ident())
        self.batch_sizes.append(batch_size)
        self._before(pixels, batch_size)
        return torch.ones(len(pixels), 1, 32)

    def release(self) -> None:
        self.threads.add(threading.get_ident())
        self.released += 1


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_folder(tmp_path_factory.mktemp("clip") / "tower")


class Work:
    """A folder of five videos, the third one with its own number of frames, and faulty towers."""

    def __init__(self, folder: Path, tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.videos, self.output, self._tower = folder / "videos", folder / "out", tower
        self.videos.mkdir()
        for i in range(5):
            make_clip(self.videos / f"{i}.mp4", num_frames=POISON if i == 2 else 12)
        self.opened: list[FaultyTower] = []
        self.before: Before = lambda pixels, batch_size: None
        monkeypatch.setattr(Extraction, "encoder_on", self._open)

    def _open(self, *_: Any) -> FaultyTower:
        self.opened.append(FaultyTower(self._now))
        return self.opened[-1]

    def _now(self, pixels: NDArray[np.uint8], batch_size: int) -> None:
        self.before(pixels, batch_size)

    def job(self, **changes: Any) -> FeaturesJob:
        return FeaturesJob(
            media=find_media([self.videos]),
            output=self.output,
            options=FeatureOptions(tower=str(self._tower)),
            sampling=FrameSampling(num_frames=8),
            workers=1,
            **changes,
        )

    @property
    def states(self) -> list[str]:
        with closing(sqlite3.connect(self.output / ".kinema" / "features.sqlite")) as database:
            return [s for (s,) in database.execute("SELECT state FROM unit ORDER BY position")]


@pytest.fixture
def work(tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(tmp_path, tower, monkeypatch)


def on_poison(problem: Exception) -> Before:
    def before(pixels: NDArray[np.uint8], batch_size: int) -> None:
        if len(pixels) == POISON:
            raise problem

    return before


def always(problem: Exception) -> Before:
    def before(pixels: NDArray[np.uint8], batch_size: int) -> None:
        raise problem

    return before


def test_each_tower_belongs_to_one_thread(work: Work) -> None:
    both = threading.Event()

    def before(pixels: NDArray[np.uint8], batch_size: int) -> None:
        if len(work.opened) == 2:
            both.set()
        assert both.wait(60)

    work.before = before
    assert work.job(devices=("cpu", "cpu")).run() == 0
    assert len(work.opened) == 2
    assert all(len(tower.threads) == 1 for tower in work.opened)
    assert work.opened[0].threads != work.opened[1].threads
    assert threading.get_ident() not in work.opened[0].threads | work.opened[1].threads


def test_too_little_memory_halves_the_frames_of_a_call(work: Work) -> None:
    def before(pixels: NDArray[np.uint8], batch_size: int) -> None:
        if batch_size > 2:
            raise OutOfMemory("The device ran out of memory.")

    work.before = before
    assert work.job().run() == 0
    (tower,) = work.opened
    # The first video finds out what fits; the others begin with it.
    assert tower.batch_sizes == [8, 4, 2, 2, 2, 2, 2]
    assert work.states == ["done"] * 5


@pytest.mark.parametrize(
    "problem",
    [
        OutOfMemory("The device ran out of memory.", hint="Lower --batch-size."),
        EngineDied("The device failed.", hint="Start again."),
        RequestRefused("The model refused the request.", hint="See `kinema models`."),
    ],
)
def test_one_video_that_a_tower_fails_at_is_blamed_and_no_other(
    work: Work, problem: KinemaError
) -> None:
    work.before = on_poison(problem)
    job = work.job()
    assert job.run() == 1
    assert work.states == ["done", "done", "failed", "done", "done"]
    record = job.records()[2]
    assert record["status"] == "failed"
    assert problem.sentence in record["error"]
    assert work.job().run() == 1

    work.before = lambda pixels, batch_size: None
    told = []
    assert work.job(retry_failed=True).run(told.append) == 0
    assert told[0].found.endswith(
        "features.sqlite has 4 of 5 videos from earlier runs, 1 failed, 0 to do."
    )
    rows, _ = load_features(work.output / "2.mp4.safetensors")
    assert rows.shape == (POISON, 1, 32)


@pytest.mark.parametrize(
    "problem", [OutOfMemory("The device ran out of memory."), EngineDied("The device failed.")]
)
def test_a_tower_that_encodes_nothing_ends_the_run_and_blames_no_video(
    work: Work, problem: KinemaError
) -> None:
    work.before = always(problem)
    job = work.job()
    with pytest.raises(Unfinished, match="5 videos are still to do"):
        job.run()
    assert work.states == ["todo"] * 5
    for record in job.records():
        assert record["status"] == "todo"
        assert record["error"] == f"Still to do; the run stopped: {problem}"

    work.before = lambda pixels, batch_size: None
    assert work.job().run() == 0
    assert work.states == ["done"] * 5


def test_videos_that_cannot_be_used_fail_or_are_skipped_by_name(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work.videos / "5.mp4").write_bytes(b"this is no video" * 50)
    with av.open(str(work.videos / "6.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    load = Workers.load_frames

    def crashing(workers: Workers, source: Any, **settings: Any) -> Any:
        if Path(source).name == "4.mp4":
            raise DecoderCrashed("The decoder died.")
        return load(workers, source, **settings)

    monkeypatch.setattr(Workers, "load_frames", crashing)
    job = work.job()
    assert job.run() == 2
    assert work.states == ["done"] * 4 + ["quarantined", "failed", "skipped"]
    *_, crashed, broken, silent = job.records()
    assert crashed["error"] == "The decoder died."
    assert "text file" in broken["error"]
    assert (silent["status"], "features" in silent) == ("skipped", False)

    monkeypatch.undo()
    assert work.job(retry_failed=True).run() == 1
    assert work.states[4] == "done"


def test_a_full_disk_ends_the_run_and_loses_nothing(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Ledger.finish
    finished: list[str] = []

    def filling_up(ledger: Ledger, unit: Unit, outcome: Outcome) -> None:
        if len(finished) == 2:
            raise KinemaError("The ledger cannot be written: disk full.")
        finished.append(unit.id)
        finish(ledger, unit, outcome)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "finish", filling_up)
        with pytest.raises(Unfinished, match="3 videos are still to do"):
            work.job().run()
    assert sorted(work.states) == ["done"] * 2 + ["todo"] * 3
    assert work.job().run() == 0


def test_what_does_not_exist_is_refused_before_anything_is_opened(
    tmp_path: Path, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["features", "--tower", str(tmp_path / "no-tower")], ["caption", "-m", "echo"]):
        for more in ([], ["--pattern", "{a}.mp4"] if verb[0] == "features" else ["--fps", "1"]):
            words = [*verb, str(tmp_path / "nowhere/"), "-o", str(tmp_path / "out"), *more]
            assert run(words) in {1, 2}
            assert "There is no file or folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_tower_is_named_and_nothing_is_left_behind(
    tmp_path: Path, tower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(tower, tmp_path / "damaged"))
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    make_clip(tmp_path / "clip.mp4")
    words = [str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out")]
    assert run(["features", *words, "--tower", str(damaged)]) == 1
    assert "is not whole" in capsys.readouterr().err
    assert run(["features", *words, "--tower", str(tmp_path / "none")]) == 1
    assert "--vision-tower" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
