"""Sources without an end come as windows, and what a slow viewer misses is said."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest

from kinema.errors import FetchFailed, UsageError
from kinema.types import Frames
from kinema.video import watch
from kinema.video.live import _Clock
from support.clips import read_boards
from support.rtsp import camera


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name == "kinema-live"]


def missed(windows: list[Frames]) -> int:
    said = [re.match(r"(\d+) frames before these", w) for f in windows for w in f.warnings]
    return sum(int(m[1]) for m in said if m)


def test_a_camera_is_seen_in_windows_with_true_times() -> None:
    with camera(num_frames=100, fps=10) as address:
        windows = list(watch(address, fps=2, window_seconds=2, size=32))
    for window in windows:
        assert read_boards(window.pixels) == window.indices.tolist()
        assert window.seconds.tolist() == pytest.approx(window.indices / 10)
        assert window.pixels.shape[1:] == (32, 48, 3)
        assert window.source.startswith("rtsp://127.0.0.1:")
        assert "secret" not in window.source
    assert sum(map(len, windows)) + missed(windows) == 20
    assert windows[-1].indices.tolist() == [80, 85, 90, 95]


def test_a_device_is_seen_while_the_last_window_is_used() -> None:
    # Nine times as fast as life: the first window is there a third of a second before the next.
    device = "lavfi:testsrc2=size=96x64:rate=10:duration=9,realtime=speed=9"
    windows = watch(device, fps=1, window_seconds=3)
    first = next(windows)
    assert first.seconds.tolist() == [0, 1, 2]
    while any(t.name == "kinema-live" for t in threading.enumerate()):
        pass  # all of it is read meanwhile, and only the newest window waits
    (last,) = windows
    assert last.seconds.tolist() == [6, 7, 8]
    assert missed([last]) == 3


def test_leaving_early_ends_the_reading() -> None:
    windows = watch("lavfi:testsrc2=size=96x64:rate=10,realtime", fps=5, window_seconds=0.4)
    assert [len(next(windows)) for _ in range(2)] == [2, 2]
    windows.close()  # type: ignore[attr-defined]


def test_nobody_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(FetchFailed, match="does not answer") as caught:
        next(watch(f"rtsp://a:secret@127.0.0.1:{port}/x"))
    assert "secret" not in str(caught.value)


def test_a_silent_camera_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(FetchFailed, match="fell silent"):
            next(watch(f"rtsp://127.0.0.1:{port}/x", silence_seconds=0.5))


@pytest.mark.parametrize("source", ["clip.mp4", "http://x/y", "concat:a", "v4l2:", "rtmp://x"])
def test_only_cameras_and_streams_are_watched(source: str) -> None:
    with pytest.raises(UsageError, match="no camera"):
        watch(source)


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(UsageError, match="positive"):
        watch("webcam", fps=0)


def test_a_clock_that_jumps_or_is_missing_goes_on() -> None:
    clock = _Clock(0.5)
    raw = [100.0, 100.5, 101.0, 3.0, 3.5, None, None, 9000.0, 9000.5]
    assert [clock.read(r) for r in raw] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
