"""A file decoded from its first packet to its last, as any player does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from av.error import FFmpegError

from kinema.video.container import open_container, translated, video_stream
from kinema.video.media import Media

_ORDERED_ALONE = frozenset({"avi"})
"""Demuxers of containers that store the order of decoding and no times."""
_SETS_ITS_CLOCK_ANEW = frozenset({"mpegts", "mpeg"})


MOST_UNREADABLE = 16
"""Packets that a demuxer may fail to read before the file is taken to end."""


class Playback:
    """A decoder over an open file; its frames come once."""

    def __init__(self, container: Any, stream: Any, media: Media, *, careful: bool) -> None:
        self._container, self._stream, self._media = container, stream, media
        self.is_damaged = False
        """Whether the decoder has met damage so far."""
        self.seconds_per_tick = float(stream.time_base or 1 / 90000)
        """Of the times that frames carry."""
        self.has_presentation_times = container.format.name not in _ORDERED_ALONE
        """False where those that frames carry are guesses."""
        self.closes_gaps = container.format.name in _SETS_ITS_CLOCK_ANEW
        """True where a long gap in the times means that the clock was set anew."""
        context = stream.codec_context
        context.thread_count = 1 if careful else usable_cores()
        context.thread_type = "SLICE" if careful else "AUTO"
        context.copy_opaque = True

    def frames(self) -> Iterator[Any]:
        """Every ``av.VideoFrame``; its ``opaque`` is a list of its packet's position."""
        for position, packet in enumerate(self._packets()):
            # PyAV keeps these by identity, and small integers are one object in all threads.
            packet.opaque = [position]
            yield from self._decode(packet)
        yield from self._decode(None)

    def _packets(self) -> Iterator[Any]:
        for _ in range(MOST_UNREADABLE):
            try:
                packets = self._media.metered(self._container.demux(self._stream))
                yield from (packet for packet in packets if packet.size)
            except FFmpegError:
                self.is_damaged = True
            else:
                return

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except FFmpegError:
            self.is_damaged = True
            return []
        self.is_damaged |= any(frame.is_corrupt for frame in frames)
        return frames


@contextmanager
def open_playback(media: Media, *, careful: bool = False) -> Iterator[Playback]:
    """Open a file to decode all of it.

    Args:
        media: the file.
        careful: in one thread: with several, pictures are lost behind damage.

    Raises:
        MediaError: see :func:`kinema.video.container.open_container`.
    """
    with translated(media), open_container(media) as container:
        yield Playback(container, video_stream(container, media), media, careful=careful)


def first_frame(container: Any, stream: Any) -> Any:
    """The first ``av.VideoFrame`` that a decoder gives; what it cannot decode is passed over.

    Raises:
        ValueError: it gives none; :func:`kinema.video.container.translated` names the file.
    """
    for packet in container.demux(stream):
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except FFmpegError:
            continue
        if frames:
            return frames[0]
    raise ValueError("no frame")


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
