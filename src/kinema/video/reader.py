"""An open file and its decoder, sent from run to run; where files are long, from call to call.

FFmpeg reads all tables of a file when it opens it: a tenth of a second for two hours, a second for
ten. Whoever takes a long film piece by piece keeps it open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import numpy as np
from av.error import FFmpegError

from kinema.video.container import open_container, translated, video_stream
from kinema.video.disposable import decoder_may_skip, packet_filter
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.packets import MISSING
from kinema.video.runs import Run

_BEFORE_EVERYTHING = -(1 << 40)
_LONG_PACKETS = 1 << 14
"""Ten minutes; opening a shorter file takes a few milliseconds."""


@contextmanager
def open_reader(media: Media, index: VideoIndex, *, num_threads: int) -> Iterator[Reader]:
    """A reader for one call, closed or kept on the way out.

    Raises:
        MediaError: see :func:`kinema.video.container.open_container`.
    """
    with translated(media):
        reader = kept.take(media, index, num_threads) or Reader(
            media, index, num_threads=num_threads
        )
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        kept.put(reader)


class Kept:
    """Readers between calls, all of the long film that was read last."""

    def __init__(self) -> None:
        self.most = 0
        """How many; a process that wants to keep some says so."""
        self._readers: list[Reader] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            self._close_all_but(0)

    def take(self, media: Media, index: VideoIndex, num_threads: int) -> Reader | None:
        """One that has the file open, and threads enough; those of other files are closed."""
        with self._lock:
            if not self._readers:
                return None
            file = _identity(media)
            if any(reader.file != file or reader.index is not index for reader in self._readers):
                self._close_all_but(0)  # the file is another one, or has changed
            for reader in self._readers:
                if reader.num_threads >= num_threads:
                    self._readers.remove(reader)
                    reader.begin(media)
                    return reader
        return None

    def put(self, reader: Reader) -> None:
        """Keep it where that pays, and those with the most threads where there are too many."""
        if reader.file is None or reader.index.num_packets < _LONG_PACKETS:
            reader.close()
            return
        with self._lock:
            self._readers.append(reader)
            self._readers.sort(key=lambda one: one.num_threads, reverse=True)
            self._close_all_but(self.most)

    def _close_all_but(self, count: int) -> None:
        while len(self._readers) > count:
            self._readers.pop().close()


kept = Kept()


def _identity(media: Media) -> tuple[object, ...] | None:
    """What stays the same while a name leads to the same bytes, read within the same limits."""
    if media.path is None:
        return None
    try:
        stat = media.path.stat()
    except OSError:
        return None
    when = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    limits = (media.track, media.budget.pixels)
    return media.path.absolute(), stat.st_dev, stat.st_ino, *when, *limits


class Reader:
    """One open decoder that can be sent from run to run.

    Raises:
        MediaError: the file cannot be opened.
    """

    def __init__(self, media: Media, index: VideoIndex, *, num_threads: int = 1) -> None:
        self.file = _identity(media)
        self.index = index
        self.num_threads = num_threads
        self._next = 0
        with ExitStack() as stack:
            self._container = stack.enter_context(open_container(media))
            self._stream = video_stream(self._container, media)
            # The decoder is set up before it is opened by its first packet.
            self._context = self._stream.codec_context
            self._context.thread_count = num_threads
            self._context.thread_type = "AUTO" if num_threads > 1 else "SLICE"
            self._context.copy_opaque = True
            self._skips = decoder_may_skip(self._context) and not index.by_order
            self._is_disposable = None if index.by_order else packet_filter(self._context)
            self._open = stack.pop_all()
        self.begin(media)

    def begin(self, media: Media) -> None:
        """A call begins, with a budget of its own."""
        self._media = media
        self.num_errors = 0

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height."""
        return float(self._stream.sample_aspect_ratio or 1)

    def read(self, run: Run) -> Iterator[tuple[int, Any]]:
        """Yield (frame index, ``av.VideoFrame``) of a run's frames, in presentation order."""
        left = dict(run.frames)
        for count, frame in enumerate(self._frames(run)):
            frame_index = left.pop(count if self.index.by_order else frame.opaque[0], None)
            if frame_index is not None:
                yield frame_index, frame
            if not left:
                break
        self._context.flush_buffers()

    def _frames(self, run: Run) -> Iterator[Any]:
        for position, packet in self._packets_from(run.entry):
            # PyAV keeps these by identity, and small integers are one object in all threads.
            packet.opaque = [position]
            if not self._may_drop(packet, is_wanted=position in run.frames):
                yield from self._decode(packet)
            if position + 1 >= run.stop:
                break
        yield from self._decode(None)

    def _may_drop(self, packet: Any, *, is_wanted: bool) -> bool:
        """True for a packet nobody needs; some decoders are told to find them by themselves."""
        if self._skips:
            self._context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        if is_wanted or self._is_disposable is None:
            return False
        return self._is_disposable(bytes(packet))

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._context.decode(packet)
        except FFmpegError:
            self.num_errors += 1
            return []
        return frames

    def _packets_from(self, entry: int) -> Iterator[tuple[int, Any]]:
        """(decoding-order position, packet) from packet ``entry`` on."""
        numbered = self._onward(self._next) if self._next == entry else self._seek(entry)
        for position, packet in numbered:
            self._next = position + 1
            yield position, packet

    def _onward(self, position: int) -> Iterator[tuple[int, Any]]:
        packets = self._media.metered(self._container.demux(self._stream))
        return enumerate((p for p in packets if p.size), position)

    def _seek(self, entry: int) -> Iterator[tuple[int, Any]]:
        for seek_to in self._seek_candidates(entry):
            try:
                self._container.seek(seek_to, stream=self._stream, backward=True)
            except FFmpegError:
                continue
            landed = self._land(entry)
            if landed is not None:
                return landed
        return iter(())

    def _land(self, entry: int) -> Iterator[tuple[int, Any]] | None:
        """Packets from ``entry`` on, None when the seek went past it."""
        position = -1
        for _, packet in self._onward(0):
            position = position + 1 if position >= 0 else self._locate(packet)
            if position > entry:
                return None
            if position == entry:
                return chain([(entry, packet)], self._onward(entry + 1))
        return None

    def _seek_candidates(self, entry: int) -> Iterator[int]:
        """Times to seek to, the likeliest first."""
        pts, dts = self.index.pts, self.index.dts
        times = [int(pts[entry]), int(dts[entry]), int(dts.min())]
        times = [_BEFORE_EVERYTHING, *times] if entry == 0 else [*times, _BEFORE_EVERYTHING]
        return (t for t in times if t != MISSING)

    def _locate(self, packet: Any) -> int:
        """Position of the first packet after a seek, -1 while it is unknown."""
        # Some demuxers guess other decoding times after a seek, so those only break ties.
        if packet.pts is None:
            return -1
        found = np.flatnonzero(self.index.pts == packet.pts)
        if len(found) > 1:
            found = found[self.index.dts[found] == packet.dts]
        return int(found[0]) if len(found) else -1
