"""A file decoded from its first packet to its last, as any player does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from av.error import FFmpegError

from kinema.video.container import open_container, translated, video_stream
from kinema.video.media import Media

_SETS_ITS_CLOCK_ANEW = frozenset({"mpegts", "mpeg"})


class Playback:
    """A decoder over an open file; its frames come once."""

    def __init__(self, container: Any, stream: Any, media: Media, *, careful: bool) -> None:
        self._container, self._stream, self._media = container, stream, media
        self.is_damaged = False
        """Whether the decoder has met damage so far."""
        self.seconds_per_tick = float(stream.time_base or 1 / 90000)
        """Of the times that frames carry."""
        rate = stream.guessed_rate or stream.average_rate
        self.rate = float(rate) if rate else None
        """Frames a second that the container speaks of."""
        self.closes_gaps = container.format.name in _SETS_ITS_CLOCK_ANEW
        """True where a long gap in the times means that the clock was set anew."""
        context = stream.codec_context
        context.thread_count = 1 if careful else usable_cores()
        context.thread_type = "SLICE" if careful else "AUTO"
        context.copy_opaque = True

    def frames(self) -> Iterator[Any]:
        """Every ``av.VideoFrame``; its ``opaque`` is a list of its packet's position."""
        packets = self._media.metered(self._container.demux(self._stream))
        for position, packet in enumerate(p for p in packets if p.size):
            # PyAV keeps these by identity, and small integers are one object in all threads.
            packet.opaque = [position]
            yield from self._decode(packet)
        yield from self._decode(None)

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


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
