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
from kinema.video.reader import open_reader
from kinema.video.runs import Run, earlier, join_neighbours, plan_runs

_SHARES_A_THREAD = 4
_MOST_THREADS = 16
"""Each holds a decoder's own pictures, so memory grows with them."""
_THREADS_A_CORE_ALONE = 2
"""Of a decoder that is alone: a picture's thread waits for the pictures it refers to; measured on
clips of one group."""


def decode(
    media: Media,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    *,
    size: Size | None = None,
    num_threads: int | None = None,
) -> Decoded:
    """Decode the wanted frames; see :data:`kinema.video.reading.DECODERS`."""
    canvas = Canvas(wanted)
    num_threads = num_threads or min(usable_cores(), _MOST_THREADS)
    runs = plan_runs(index, wanted)
    share = sum(len(run) for run in runs) // (_SHARES_A_THREAD * num_threads)
    runs = join_neighbours(runs, most_packets=share)
    workers = min(num_threads, len(runs))
    work: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in sorted(runs, key=len, reverse=True):  # so that no core waits for the last
        work.put(run)
    lone = workers == 1 and num_threads > 1
    threads_each = num_threads * _THREADS_A_CORE_ALONE if lone else num_threads // workers

    def work_off(run: Run) -> int:
        """Decode this run and others until none is left; the number of packets that failed."""
        with open_reader(media, index, num_threads=threads_each) as reader:
            converter = Converter(reader.pixel_aspect, size)
            while True:
                missing = _keep(reader.read(run), run, canvas, converter)
                if missing and run.entry:
                    again = earlier(index, run, missing)
                    _keep(reader.read(again), again, canvas, converter)
                try:
                    run = work.get_nowait()
                except queue.Empty:
                    return reader.num_errors

    first = [work.get() for _ in range(workers)]
    if workers == 1:
        damaged = work_off(first[0])
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="kinema-decode") as pool:
            damaged = sum(pool.map(work_off, first))
    if canvas.pixels is None:
        raise NoFrames(
            f"{media.name}: none of {len(wanted)} frames could be decoded.",
            hint="The file is damaged; fetch it again or take another part of it.",
        )
    warnings = []
    if damaged:
        warnings.append(f"The decoder reported {damaged} damaged packets.")
    if canvas.damaged.any():
        marked = f"{canvas.damaged.sum()} of {canvas.found.sum()}"
        warnings.append(f"{marked} frames are marked as corrupt.")
    corrupt = int(canvas.damaged.sum())
    return Decoded(canvas.pixels, canvas.found, tuple(warnings), damaged, corrupt)


def _keep(
    frames: Iterator[tuple[int, Any]], run: Run, canvas: Canvas, converter: Converter
) -> set[int]:
    """Put a run's frames onto the canvas; those that did not come."""
    missing = set(run.frames.values())
    for frame_index, frame in frames:
        canvas.put(frame_index, converter, frame)
        missing.discard(frame_index)
    return missing


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


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
