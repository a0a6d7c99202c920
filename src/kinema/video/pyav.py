"""Decoding with PyAV: only from the key frame before each wanted frame, only to that frame.

Groups of pictures do not need each other, so each core decodes its own; packets that nothing refers
to are skipped unless they are wanted; scaling and RGB happen in one conversion.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import NoFrames
from kinema.video.decoder import Decoded, Size
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.picture import Canvas, Converter
from kinema.video.reader import Reader, open_reader
from kinema.video.runs import Run, earlier, join_neighbours, plan_runs

_SHARES_A_THREAD = 4
_MOST_THREADS = 16
"""Each holds a decoder's own pictures, so memory grows with them."""
_THREADS_A_CORE_ALONE = 2
"""A picture's thread waits for the pictures it refers to; measured on clips of one group."""


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
    with open_reader(media, index, num_threads=usable_cores()) as reader:
        converter = Converter(reader.pixel_aspect, size)
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
        with open_reader(self._media, self._index, num_threads=self._num_threads) as reader:
            converter = Converter(reader.pixel_aspect, self._size)
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
