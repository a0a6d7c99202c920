"""Decoding with PyAV: only from the key frame before each wanted frame, only to that frame.

Groups of pictures do not need each other, so each core decodes its own; packets that nothing refers
to are skipped unless they are wanted; scaling and RGB happen in one conversion.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from kinema.errors import NoFrames
from kinema.video.container import open_container, video_stream
from kinema.video.decoder import Decoded, Size
from kinema.video.disposable import decoder_may_skip, packet_filter
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.packets import MISSING
from kinema.video.picture import Canvas, Converter
from kinema.video.runs import Run, earlier, join_neighbours, plan_runs

_SHARES_A_THREAD = 4
_MOST_THREADS = 16
"""Each holds a decoder's own pictures, so memory grows with them."""
_THREADS_A_CORE_ALONE = 2
"""A picture's thread waits for the pictures it refers to; measured on clips of one group."""
_BEFORE_EVERYTHING = -(1 << 40)


def decode(
    media: Media,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    *,
    size: Size | None = None,
    num_threads: int | None = None,
) -> Decoded:
    """Decode the wanted frames; the protocol of :class:`kinema.video.decoder.Decodes`."""
    canvas = Canvas(wanted)
    num_threads = num_threads or min(usable_cores(), _MOST_THREADS)
    runs = _shares(plan_runs(index, wanted), num_threads)
    workers = min(num_threads, len(runs))
    work: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in runs:
        work.put(run)
    crew = [
        Crew(media, index, canvas, size=size, num_threads=_threads_each(num_threads, workers))
        for _ in range(workers)
    ]
    if workers == 1:
        damaged = crew[0].work_off(work)
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="kinema-decode") as pool:
            damaged = sum(pool.map(lambda member: member.work_off(work), crew))
    if canvas.pixels is None:
        raise NoFrames(
            f"{media.name}: none of {len(wanted)} frames could be decoded.",
            hint="The file is damaged; fetch it again or take another part of it.",
        )
    return Decoded(canvas.pixels, canvas.found, tuple(_damage(damaged, canvas)))


def _damage(num_packets: int, canvas: Canvas) -> Iterator[str]:
    if num_packets:
        yield f"The decoder reported {num_packets} damaged packets."
    if canvas.damaged.any():
        yield f"{canvas.damaged.sum()} of {canvas.found.sum()} frames are marked as corrupt."


def stream(
    media: Media, index: VideoIndex, *, size: Size | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Every frame in presentation order as (frame index, uint8[H, W, 3]), one in memory at a time.

    Raises:
        MediaError: the file cannot be opened.
    """
    with open_container(media) as container:
        video = video_stream(container, media)
        reader = Reader(media, container, video, index, num_threads=usable_cores())
        converter = Converter(float(video.sample_aspect_ratio or 1), size)
        for run in plan_runs(index, np.arange(len(index.timeline))):
            for frame_index, frame in reader.read(run):
                picture = np.empty((*converter.shape(frame), 3), dtype=np.uint8)
                converter.into(picture, frame)
                yield frame_index, picture


def _shares(runs: list[Run], num_threads: int) -> list[Run]:
    """Runs in the order to start them, the longest first so that no core waits for the last."""
    total = sum(len(run) for run in runs)
    joined = join_neighbours(runs, most_packets=total // (_SHARES_A_THREAD * num_threads))
    return sorted(joined, key=len, reverse=True)


def _threads_each(num_threads: int, workers: int) -> int:
    """Of each decoder; when one is alone its threads wait for each other, so it gets more."""
    lone = workers == 1 and num_threads > 1
    return num_threads * _THREADS_A_CORE_ALONE if lone else num_threads // workers


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew:
    """One thread's share: its own container and decoder, fed with runs until none is left."""

    def __init__(
        self,
        media: Media,
        index: VideoIndex,
        canvas: Canvas,
        *,
        size: Size | None,
        num_threads: int,
    ) -> None:
        self._media = media
        self._index = index
        self._canvas = canvas
        self._size = size
        self._num_threads = num_threads

    def work_off(self, work: queue.SimpleQueue[Run]) -> int:
        """Decode runs until the queue is empty; the number of packets that failed."""
        try:
            run = work.get_nowait()
        except queue.Empty:
            return 0
        with open_container(self._media) as container:
            stream = video_stream(container, self._media)
            reader = Reader(
                self._media, container, stream, self._index, num_threads=self._num_threads
            )
            converter = Converter(float(stream.sample_aspect_ratio or 1), self._size)
            while True:
                self._do(run, reader, converter)
                try:
                    run = work.get_nowait()
                except queue.Empty:
                    return reader.num_errors

    def _do(self, run: Run, reader: Reader, converter: Converter) -> None:
        missing = self._keep(reader.read(run), run, converter)
        if missing and run.entry:
            again = earlier(self._index, run, missing)
            self._keep(reader.read(again), again, converter)

    def _keep(self, frames: Iterator[tuple[int, Any]], run: Run, converter: Converter) -> set[int]:
        missing = set(run.frames.values())
        for frame_index, frame in frames:
            self._canvas.put(frame_index, converter, frame)
            missing.discard(frame_index)
        return missing


class Reader:
    """One open decoder that can be sent from run to run."""

    def __init__(
        self,
        media: Media,
        container: Any,
        stream: Any,
        index: VideoIndex,
        *,
        num_threads: int = 1,
    ) -> None:
        self._media = media
        self._container = container
        self._stream = stream
        self._index = index
        self._context = stream.codec_context
        self._context.thread_count = num_threads
        self._context.thread_type = "AUTO" if num_threads > 1 else "SLICE"
        self._context.copy_opaque = True
        self._skips = decoder_may_skip(self._context) and not index.by_order
        self._is_disposable = None if index.by_order else packet_filter(self._context)
        self._next = 0
        self.num_errors = 0

    def read(self, run: Run) -> Iterator[tuple[int, Any]]:
        """Yield (frame index, ``av.VideoFrame``) of a run's frames, in presentation order."""
        left = dict(run.frames)
        for count, frame in enumerate(self._frames(run)):
            frame_index = left.pop(count if self._index.by_order else frame.opaque[0], None)
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
        pts, dts = self._index.pts, self._index.dts
        times = [int(pts[entry]), int(dts[entry]), int(dts.min())]
        times = [_BEFORE_EVERYTHING, *times] if entry == 0 else [*times, _BEFORE_EVERYTHING]
        return (t for t in times if t != MISSING)

    def _locate(self, packet: Any) -> int:
        """Position of the first packet after a seek, -1 while it is unknown."""
        # Some demuxers guess other decoding times after a seek, so those only break ties.
        if packet.pts is None:
            return -1
        found = np.flatnonzero(self._index.pts == packet.pts)
        if len(found) > 1:
            found = found[self._index.dts[found] == packet.dts]
        return int(found[0]) if len(found) else -1
