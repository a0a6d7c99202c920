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

    def __init__(self, container: Any, stream: Any, media: Media) -> None:
        self._container, self._stream, self._media = container, stream, media
        self.num_errors = 0
        """Packets that the decoder has refused so far."""
        context = stream.codec_context
        context.thread_count = usable_cores()
        context.thread_type = "AUTO"
        context.copy_opaque = True

    @property
    def seconds_per_tick(self) -> float:
        """Of the times that frames carry."""
        return float(self._stream.time_base or 1 / 90000)

    @property
    def rate(self) -> float | None:
        """Frames a second that the container speaks of."""
        rate = self._stream.guessed_rate or self._stream.average_rate
        return float(rate) if rate else None

    @property
    def closes_gaps(self) -> bool:
        """True where a long gap in the times means that the clock was set anew."""
        return self._container.format.name in _SETS_ITS_CLOCK_ANEW

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
            self.num_errors += 1
            return []
        return frames


@contextmanager
def open_playback(media: Media) -> Iterator[Playback]:
    """Open a file to decode all of it.

    Raises:
        MediaError: see :func:`kinema.video.container.open_container`.
    """
    with translated(media), open_container(media) as container:
        yield Playback(container, video_stream(container, media), media)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
