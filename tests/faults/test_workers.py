"""Rows 18 and 19: a decoder that hangs, dies or eats memory costs one file, never the program."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from kinema.errors import (
    DecodeDeadline,
    DecoderCrashed,
    KinemaError,
    MediaNotFound,
    TooLarge,
    Truncated,
    UsageError,
)
from kinema.types import Frames, FrameSampling
from kinema.video import Access, Budget, Workers, find_shots, load_frames, plan, probe
from kinema.video.info import timeline
from kinema.video.wire import Job, receive_reply, send_job
from support.clips import board, make_clip, read_boards


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workers") / "clip.mp4"
    make_clip(path, num_frames=60, options={"g": "12"})
    return path


def shared_memory() -> set[str]:
    """What is ours in a folder that all programs of the machine share."""
    return {name for name in os.listdir("/dev/shm") if "kinema" in name}


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """No process, zombie, descriptor or shared memory."""
    gc.collect()
    me = psutil.Process()
    before = me.num_fds(), shared_memory()
    yield
    gc.collect()
    assert me.children() == []
    assert (me.num_fds(), shared_memory()) == before


def child() -> psutil.Process:
    (process,) = psutil.Process().children()
    return process


def stopped(workers: Workers, clip: Path) -> psutil.Process:
    """A worker that is up and does not run any more: to its parent, a decoder that hangs."""
    workers.load_frames(clip, num_frames=1)
    process = child()
    process.suspend()
    return process


def meanwhile(action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.3, action)
    timer.start()
    return timer


def test_a_worker_reads_what_the_program_itself_would_read(clip: Path) -> None:
    with Workers(1) as workers:
        for choice in ({"num_frames": 7}, {"fps": 2, "start": 1}, {"single": "last", "size": 32}):
            there, here = workers.load_frames(clip, **choice), load_frames(clip, **choice)
            assert read_boards(there.pixels) == read_boards(here.pixels) == here.indices.tolist()
            assert there.to_dict() == here.to_dict()


def test_a_worker_describes_plans_and_cuts_as_the_program_itself_would(clip: Path) -> None:
    with Workers(1) as workers:
        assert workers.probe(clip) == probe(clip)
        sampling = FrameSampling(fps=2)
        assert workers.plan(clip, sampling).to_dict() == plan(clip, sampling).to_dict()
        assert workers.find_shots(clip, max_seconds=1.2) == find_shots(clip, max_seconds=1.2)
        there, here = workers.timeline(clip), timeline(clip)
        assert there.seconds.tolist() == here.seconds.tolist()
        assert there.keyframes.tolist() == here.keyframes.tolist()
        assert there.duration_seconds == here.duration_seconds
        assert len(workers.load_frames(clip, num_frames=2)) == 2
        with pytest.raises(MediaNotFound):
            workers.probe(clip.with_name("none.mp4"))


@pytest.mark.parametrize("form", ["bytes", "open file", "pictures", "frames", "array"])
def test_a_worker_takes_every_form_of_a_source(clip: Path, form: str) -> None:
    forms: dict[str, object] = {
        "bytes": clip.read_bytes(),
        "open file": io.BytesIO(clip.read_bytes()),
        "pictures": [board(i) for i in range(4)],
        "frames": load_frames(clip, num_frames=4),
        "array": load_frames(clip, num_frames=4).pixels,
    }
    with Workers(1) as workers:
        assert len(workers.load_frames(forms[form], num_frames=4)) == 4  # type: ignore[arg-type]


def test_errors_come_back_as_they_are(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"moov") - 4])
    with Workers(1) as workers:
        for source, kind in (
            (tmp_path / "none.mp4", MediaNotFound),
            (tmp_path / "cut.mp4", Truncated),
        ):
            with pytest.raises(kind) as there:
                workers.load_frames(source)
            with pytest.raises(kind) as here:
                load_frames(source)
            assert (str(there.value), there.value.hint) == (str(here.value), here.value.hint)
        with pytest.raises(UsageError):
            workers.load_frames(clip, num_frames=0)
        with pytest.raises(UsageError, match="both"):
            workers.load_frames(clip, sampling=FrameSampling(num_frames=2), fps=1)


@pytest.mark.fault(18)
def test_a_hang_ends_at_the_deadline_and_the_next_file_is_read(clip: Path) -> None:
    with Workers(1, deadline_seconds=30) as workers:
        process = stopped(workers, clip)
        hurried = Access(budget=Budget(seconds=0.5))
        with pytest.raises(DecodeDeadline, match=r"longer than 0\.5 s"):
            workers.load_frames(clip, access=hurried)
        assert not process.is_running()
        assert len(workers.load_frames(clip, num_frames=3)) == 3


@pytest.mark.fault(19)
@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_an_error_and_the_next_file_is_read(clip: Path, how: signal.Signals) -> None:
    with Workers(1) as workers:
        process = stopped(workers, clip)
        timer = meanwhile(lambda: (process.send_signal(how), process.resume()))
        with pytest.raises(DecoderCrashed, match=how.name):
            workers.load_frames(clip)
        timer.join()
        assert len(workers.load_frames(clip, num_frames=3)) == 3


@pytest.mark.fault(19)
def test_what_kills_two_workers_is_set_aside_under_any_name(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.mp4").write_bytes(clip.read_bytes())
    make_clip(tmp_path / "other.mp4", num_frames=20)
    with Workers(1) as workers:
        for _ in range(2):
            process = stopped(workers, tmp_path / "other.mp4")
            timer = meanwhile(process.kill)
            with pytest.raises(DecoderCrashed, match="died"):
                workers.load_frames(clip)
            timer.join()
        for same in (clip, tmp_path / "copy.mp4", clip.read_bytes()):
            with pytest.raises(DecoderCrashed, match="set aside"):
                workers.load_frames(same)
        assert len(workers.load_frames(tmp_path / "other.mp4", num_frames=2)) == 2


@pytest.mark.fault(18)
def test_other_requests_go_on_while_one_hangs(clip: Path) -> None:
    with Workers(2, deadline_seconds=3) as workers:
        stopped(workers, clip)
        errors: list[KinemaError] = []

        def hang() -> None:
            try:
                workers.load_frames(clip)
            except KinemaError as error:
                errors.append(error)

        hanging = threading.Thread(target=hang)
        hanging.start()
        while len(psutil.Process().children()) < 2 and hanging.is_alive():
            assert len(workers.load_frames(clip, num_frames=2)) == 2
        hanging.join()
    assert [type(error) for error in errors] == [DecodeDeadline]


@pytest.mark.fault(19)
def test_a_reading_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path / "large.mp4", num_frames=40, height=1080, width=1920)
    with Workers(1, memory_bytes=900 << 20) as workers:
        with pytest.raises((TooLarge, DecoderCrashed)):
            workers.load_frames(tmp_path / "large.mp4", num_frames=40, size=(4000, 4000))
        assert len(workers.load_frames(tmp_path / "large.mp4", num_frames=1, size=64)) == 1


def test_a_worker_ends_with_its_parent(clip: Path) -> None:
    """Also when the parent is killed while the worker waits."""
    program = (
        "import sys, time; from kinema.video import Workers; w = Workers(1);"
        "w.load_frames(sys.argv[1], num_frames=1); print('up', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", program, str(clip)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        (orphan,) = psutil.Process(parent.pid).children()
        parent.kill()
    gone, _ = psutil.wait_procs([orphan], timeout=10)
    assert gone == [orphan]


@pytest.mark.fault(18)
def test_a_stuck_worker_ends_itself_when_nobody_is_left_to_kill_it(clip: Path) -> None:
    """The alarm runs below Python, so it also ends native code that holds the interpreter."""
    program = (
        "import ctypes, socket, sys, kinema.video.worker_process as child;"
        "child.GRACE_SECONDS = 0.2;"
        "pause = ctypes.PyDLL(None).pause;"  # keeps the interpreter's lock
        "child.CALLS['load_frames'] = lambda *_, **__: pause();"
        "child.main(sys.argv[1:])"
    )
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-c", program, str(theirs.fileno()), str(8 << 30)]
    with ours, subprocess.Popen(words, pass_fds=[theirs.fileno()]) as stuck:
        theirs.close()
        send_job(ours, Job(str(clip), {}, 0.3), give_up_at=time.monotonic() + 20)
        try:
            assert stuck.wait(timeout=30) == 1
        finally:
            stuck.kill()


def test_frames_from_a_worker_are_ordinary_frames(clip: Path) -> None:
    with Workers(1) as workers:
        frames = workers.load_frames(clip, num_frames=2)
    assert isinstance(frames, Frames)
    here = load_frames(clip, num_frames=2)
    frames.pixels[0] = 0  # nobody else's memory, and still there when the worker is gone
    assert np.array_equal(frames.pixels[1], here.pixels[1])


@pytest.mark.parametrize("heard", [False, True], ids=["while it starts", "while it decodes"])
def test_a_worker_whose_parent_was_killed_ends_without_a_word(clip: Path, heard: bool) -> None:
    ours, theirs = socket.socketpair()
    words = ["-m", "kinema.video.worker_process", str(theirs.fileno()), str(8 << 30)]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *words], stderr=subprocess.PIPE, pass_fds=[theirs.fileno()]
        )
    with ours:
        if heard:
            receive_reply(ours, give_up_at=time.monotonic() + 60)
        send_job(ours, Job(clip, {"num_frames": 60}, 60.0), give_up_at=time.monotonic() + 60)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
