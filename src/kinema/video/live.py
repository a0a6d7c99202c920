"""Cameras and network streams, which have no end: one window of frames after another.

Only for a person's own machine: nothing here is behind the gates of ``access``, and no function
that takes the sources of strangers leads here.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from kinema.errors import DecodeFailed, FetchFailed, KinemaError, NoFrames, UsageError
from kinema.types import Frames
from kinema.video.decoder import Size
from kinema.video.picture import Converter

_STREAMS = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtp,rtcp,udp,tcp,tls",
}
"""Schemes, and the protocols that FFmpeg may use for each."""
_DEVICES = {
    "v4l2": "video4linux2,v4l2",
    "avfoundation": "avfoundation",
    "dshow": "dshow",
    "lavfi": "lavfi",
}
"""What a device name begins with, and FFmpeg's name of its driver; lavfi draws test pictures."""
_WEBCAMS = {
    "linux": ("v4l2", "/dev/video0"),
    "darwin": ("avfoundation", "0"),
    "win32": ("dshow", "video=Integrated Camera"),
}
_ANY_RATE = 25
"""Frames a second of a source that says nothing about it."""
_LARGEST_STEP_SECONDS = 10.0
"""A clock that jumps further than this, or backwards, was set anew."""


def watch(
    source: str,
    *,
    fps: float = 1.0,
    window_seconds: float = 10.0,
    size: Size | None = None,
    silence_seconds: float = 10.0,
) -> Iterator[Frames]:
    """Yield one window of frames after another from a source that has no end.

    A thread keeps reading while a window is used. When the next window is complete before the last
    one was taken, the older of the two is dropped, and the newer says so in its warnings: a slow
    model sees the present. Closing the iterator, or leaving its loop, stops the thread.

    Args:
        source: ``rtsp://`` or ``rtsps://`` address, ``webcam``, a device file such as
            ``/dev/video0``, or ``DRIVER:NAME`` with v4l2, avfoundation, dshow or lavfi.
        fps: frames kept a second.
        window_seconds: length of a window; the times of all windows count from the first frame.
        size: length of the shorter side in pixels (never enlarged), or (height, width).
        silence_seconds: after so much time without a picture the source is given up.

    Raises:
        UsageError: no such kind of source, or a rate or length that is not positive.
        FetchFailed: nobody answers, or the source fell silent.
        NoFrames: the source ended without a picture.
    """
    if not (0 < fps < float("inf") and 0 < window_seconds < float("inf")):
        raise UsageError("fps and window_seconds must be positive.", hint="Try fps=1.")
    feed = _Feed.of(source)
    return _Reading(feed, fps, window_seconds, size, silence_seconds).windows()


@dataclass(frozen=True)
class _Feed:
    """What FFmpeg is told to open, and what people are told about it."""

    name: str
    address: str
    driver: str | None
    options: dict[str, str]

    @classmethod
    def of(cls, source: str) -> _Feed:
        scheme, separator, rest = source.partition("://")
        if separator and scheme.lower() in _STREAMS:
            protocols = {"protocol_whitelist": _STREAMS[scheme.lower()]}
            name = f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"
            return cls(name, source, None, protocols | {"rtsp_transport": "tcp"})
        if source == "webcam":
            driver, address = _WEBCAMS.get(sys.platform, _WEBCAMS["linux"])
        elif source.startswith("/dev/"):
            driver, address = "v4l2", source
        else:
            driver, _, address = source.partition(":")
        if driver not in _DEVICES or not address:
            raise UsageError(
                f"{source[:80]!r} is no camera or stream.",
                hint="Give rtsp://…, webcam, /dev/video0, or DRIVER:NAME with "
                f"{', '.join(_DEVICES)}.",
            )
        return cls(source, address, _DEVICES[driver], {})

    @contextmanager
    def open(self, silence_seconds: float) -> Iterator[Any]:
        """An ``av.container.InputContainer``.

        Raises:
            FetchFailed: it cannot be opened, or fell silent while the block ran.
        """
        try:
            with av.open(
                self.address,
                format=self.driver,
                options=self.options,
                timeout=(silence_seconds, silence_seconds),
            ) as container:
                yield container
        except (FFmpegError, OSError, ValueError) as problem:
            raise FetchFailed(
                f"{self.name} does not answer, or fell silent ({type(problem).__name__}).",
                hint="Is it switched on, and is the address right?",
            ) from None


@dataclass(eq=False)
class _Reading:
    """One open source and the thread that reads it."""

    feed: _Feed
    fps: float
    window_seconds: float
    size: Size | None
    silence_seconds: float
    _ready: queue.Queue[Frames | KinemaError | None] = field(default_factory=queue.Queue)
    _stop: threading.Event = field(default_factory=threading.Event)
    _dropped: int = 0

    def windows(self) -> Iterator[Frames]:
        """Windows in their order until the source ends; None never arrives here."""
        thread = threading.Thread(target=self._read, name="kinema-live", daemon=True)
        thread.start()
        try:
            while (window := self._ready.get()) is not None:
                if isinstance(window, KinemaError):
                    raise window
                yield window
        finally:
            self._stop.set()
            thread.join()

    def _read(self) -> None:
        try:
            with self.feed.open(self.silence_seconds) as container:
                count = self._follow(container)
            if not count and not self._stop.is_set():
                raise NoFrames(f"{self.feed.name} ended without a picture.", hint="Try again.")
        except KinemaError as problem:
            self._ready.put(problem)
        except Exception as problem:
            said = f"{self.feed.name} could not be read ({type(problem).__name__})."
            self._ready.put(DecodeFailed(said, hint="Try again."))
        else:
            self._ready.put(None)

    def _follow(self, container: Any) -> int:
        """Fill windows until the source ends or nobody listens; how many frames were kept."""
        if not container.streams.video:
            raise NoFrames(f"{self.feed.name} sends no picture.", hint="Give a camera.")
        stream = container.streams.video[0]
        rate = float(stream.average_rate) if stream.average_rate else None
        converter = Converter(float(stream.sample_aspect_ratio or 1), self.size)
        kept: list[tuple[int, float, NDArray[np.uint8]]] = []
        ends_at_seconds, count = self.window_seconds, 0
        shape: tuple[int, ...] | None = None
        for index, seconds, frame in self._sampled(container, stream):
            if seconds >= ends_at_seconds and kept:
                self._offer(kept, rate)
                kept = []
                ends_at_seconds = (seconds // self.window_seconds + 1) * self.window_seconds
            shape = shape or (*converter.shape(frame), 3)
            picture = np.empty(shape, dtype=np.uint8)
            converter.into(picture, frame)
            kept.append((index, seconds, picture))
            count += 1
        if kept and not self._stop.is_set():
            self._offer(kept, rate)
        return count

    def _sampled(self, container: Any, stream: Any) -> Iterator[tuple[int, float, Any]]:
        """(frame index, seconds from the first frame, frame) of the frames that are kept."""
        clock = _Clock(float(1 / (stream.average_rate or _ANY_RATE)))
        next_tick = 0
        with closing(container.decode(stream)) as frames:
            for index, frame in enumerate(frames):
                if self._stop.is_set():
                    return
                seconds = clock.read(frame.time)
                if seconds * self.fps >= next_tick - 1e-6:
                    next_tick = int(seconds * self.fps + 1e-6) + 1
                    yield index, seconds, frame

    def _offer(self, kept: list[tuple[int, float, NDArray[np.uint8]]], rate: float | None) -> None:
        """Hand a window over; one that still waits makes room for it."""
        indices, seconds, pictures = zip(*kept, strict=True)
        window = Frames(
            pixels=np.stack(pictures),
            seconds=np.array(seconds),
            indices=np.array(indices, dtype=np.int64),
            source=self.feed.name,
            source_fps=rate,
        )
        try:
            waiting = self._ready.get_nowait()
        except queue.Empty:
            self._dropped = 0
        else:
            assert isinstance(waiting, Frames)
            self._dropped += len(waiting)
            window = window.warned(f"{self._dropped} frames before these were not looked at.")
        self._ready.put(window)


class _Clock:
    """Seconds since the first frame, also where the source's own clock jumps or is missing.

    Args:
        step_seconds: from one frame to the next, until the source has shown how long that is.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step = step_seconds
        self._now: float | None = None
        self._last_raw: float | None = None

    def read(self, raw: float | None) -> float:
        """Time of a frame that the source says is shown at ``raw``."""
        if raw is not None and self._last_raw is not None:
            passed = raw - self._last_raw
            if 0 < passed <= _LARGEST_STEP_SECONDS:
                self._step = passed
        self._last_raw = raw
        self._now = 0.0 if self._now is None else self._now + self._step
        return self._now
