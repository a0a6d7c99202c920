"""Decoding with PyAV: only from the key frame before each wanted frame, only to that frame.

Groups of pictures do not need each other, so each core decodes its own; packets that nothing refers
to are skipped unless they are wanted; scaling and RGB happen in one conversion.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from kinema.errors import NoFrames
from kinema.video.decoder import Decoded, Size
from kinema.video.index import BrokenPromise, VideoIndex
from kinema.video.media import Media
from kinema.video.picture import Canvas, Converter, SizeChanged
from kinema.video.playback import usable_cores
from kinema.video.reader import Reader, open_reader
from kinema.video.runs import Run, earlier, join_neighbours, plan_runs

_SHARES_A_THREAD = 4
_MOST_THREADS = 16
"""Each holds a decoder's own pictures, so memory grows with them."""
_MOST_LISTED = 8
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
    num_threads = num_threads or min(usable_cores(), _MOST_THREADS)
    canvas = Canvas(wanted)
    try:
        damaged = _fill(canvas, media, index, wanted, size, num_threads)
    except SizeChanged:
        # Whichever thread is first: all are brought to the size of the first frame.
        canvas = Canvas(wanted, _first_shape(media, index, wanted, size, num_threads))
        damaged = _fill(canvas, media, index, wanted, size, num_threads)
    if canvas.pixels is None or not canvas.found.any():
        raise NoFrames(
            f"{media.name}: none of {len(wanted)} frames could be decoded.",
            hint="The file is damaged; fetch it again or take another part of it.",
        )
    warnings = []
    if damaged:
        warnings.append(f"The decoder reported {damaged} damaged packets.")
    corrupt = canvas.damaged & canvas.found
    if corrupt.any():
        marked = f"{corrupt.sum()} of {canvas.found.sum()}"
        warnings.append(
            f"{marked} frames are marked as corrupt: {_listed(wanted[corrupt].tolist())}."
        )
    return Decoded(canvas.pixels, canvas.found, tuple(warnings), damaged, int(corrupt.sum()))


def _listed(frames: list[int]) -> str:
    said = ", ".join(str(frame) for frame in frames[:_MOST_LISTED])
    return said + (", …" if len(frames) > _MOST_LISTED else "")


def _first_shape(
    media: Media,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    size: Size | None,
    num_threads: int,
) -> tuple[int, int] | None:
    """Height and width of the first of the wanted frames that can be decoded."""
    for place in range(len(wanted)):
        canvas = Canvas(wanted[place : place + 1])
        _fill(canvas, media, index, wanted[place : place + 1], size, num_threads)
        if canvas.pixels is not None:
            height, width = canvas.pixels.shape[1:3]
            return height, width
    return None


def _fill(
    canvas: Canvas,
    media: Media,
    index: VideoIndex,
    wanted: NDArray[np.int64],
    size: Size | None,
    num_threads: int,
) -> int:
    """Decode the wanted frames onto the canvas; how many packets the decoder refused."""
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
        num_errors = 0
        with open_reader(media, index, num_threads=threads_each) as reader:
            converter = Converter(reader.pixel_aspect, size)
            while True:
                num_errors += _read_run(media, reader, run, canvas, converter)
                try:
                    run = work.get_nowait()
                except queue.Empty:
                    return num_errors

    first = [work.get() for _ in range(workers)]
    if workers == 1:
        return work_off(first[0])
    with ThreadPoolExecutor(workers, thread_name_prefix="kinema-decode") as pool:
        return sum(pool.map(work_off, first))


def _read_run(media: Media, reader: Reader, run: Run, canvas: Canvas, converter: Converter) -> int:
    """Put a run's frames onto the canvas; what does not come is tried once from further back.

    A run that meets damage is read anew, all packets in one thread: what several threads make of
    damage, or a decoder that was not given every packet, differs from time to time.

    Returns:
        How many packets the decoder refused.

    Raises:
        BrokenPromise: a frame does not come although nothing is damaged.
    """
    missing = _keep(reader, run, canvas, converter)
    if reader.is_damaged and not reader.is_careful:
        canvas.forget(run.frames.values())
        with open_reader(media, reader.index, num_threads=1, careful=True) as careful:
            return _read_run(media, careful, run, canvas, converter)
    num_errors, was_damaged = reader.num_errors, reader.is_damaged
    if missing and run.entry:
        missing = _keep(reader, earlier(reader.index, run, missing), canvas, converter)
    is_damaged = was_damaged or reader.is_damaged
    if missing and not is_damaged and not reader.index.front_to_back:
        raise BrokenPromise("not every packet is shown")
    return num_errors


def _keep(reader: Reader, run: Run, canvas: Canvas, converter: Converter) -> set[int]:
    """Put a run's frames onto the canvas; those that did not come."""
    missing = set(run.frames.values())
    for frame_index, frame in reader.read(run):
        try:
            canvas.put(frame_index, converter, frame)
        except FFmpegError:  # its header was damaged: colours that nobody can convert
            reader.refuse(frame_index)
        else:
            missing.discard(frame_index)
    canvas.mark_damaged(reader.touched_by_damage(run) - missing)
    return missing


def stream(
    media: Media, index: VideoIndex, *, size: Size | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Every frame in presentation order as (frame index, uint8[H, W, 3]), one in memory at a time.

    Raises:
        MediaError: the file cannot be opened.
        BrokenPromise: the index does not hold.
    """
    with open_reader(media, index, num_threads=usable_cores()) as reader:
        converter = Converter(reader.pixel_aspect, size)
        for run in plan_runs(index, np.arange(len(index.timeline))):
            missing = len(run.frames)
            for frame_index, frame in reader.read(run):
                picture = np.empty((*converter.shape(frame), 3), dtype=np.uint8)
                converter.into(picture, frame)
                missing -= 1
                yield frame_index, picture
            if missing and not reader.is_damaged and not index.front_to_back:
                raise BrokenPromise("not every packet is shown")
