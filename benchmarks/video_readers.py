"""Every library that reads sampled frames, behind one call; runs as a child of ``video_read.py``.

Reads lines of JSON (reader, path, indices) on stdin and answers each with one line: seconds, peak
memory, a checksum per picture. Being a process of its own, it can be given one core or two.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[str, list[int]], Any]


def kinema_rgb(path: str, indices: list[int], size: int | None = None) -> Any:
    from kinema.video import cache, load_frames

    cache._indexes.clear()
    frames = load_frames(path, num_frames=len(indices), size=size)
    assert frames.indices.tolist() == indices
    return frames.pixels


def kinema_224(path: str, indices: list[int]) -> Any:
    return kinema_rgb(path, indices, size=224)


def kinema_cached(path: str, indices: list[int]) -> Any:
    from kinema.video import load_frames

    return load_frames(path, num_frames=len(indices)).pixels


def _torchcodec(num_threads: int) -> Reader:
    def read(path: str, indices: list[int]) -> Any:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(
            path, seek_mode="exact", num_ffmpeg_threads=num_threads, dimension_order="NHWC"
        )
        return decoder.get_frames_at(indices).data.numpy()

    return read


def decord(path: str, indices: list[int]) -> Any:
    import decord as library

    return library.VideoReader(path).get_batch(indices).asnumpy()


def opencv_seek(path: str, indices: list[int]) -> Any:
    import cv2

    capture = cv2.VideoCapture(path)
    pictures = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        pictures.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(pictures)


def opencv_grab(path: str, indices: list[int]) -> Any:
    import cv2

    capture = cv2.VideoCapture(path)
    wanted, pictures = set(indices), []
    for index in range(indices[-1] + 1):
        capture.grab()
        if index in wanted:
            pictures.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(pictures)


def pyav_loop(path: str, indices: list[int]) -> Any:
    import av

    wanted, pictures = set(indices), []
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                pictures.append(frame.to_ndarray(format="rgb24"))
            if index >= indices[-1]:
                break
    return np.stack(pictures)


def qwen_vl_utils(path: str, indices: list[int]) -> Any:
    from qwen_vl_utils import fetch_video

    # It chooses its own frames and always resizes, to 28 times 28 patches here.
    video = fetch_video({"video": path, "nframes": len(indices) // 2 * 2})
    return video.numpy().astype(np.uint8)


READERS: dict[str, tuple[Reader, str]] = {
    "kinema": (kinema_rgb, "kinema"),
    "kinema_224": (kinema_224, "kinema"),
    "kinema_cached": (kinema_cached, "kinema"),
    "torchcodec_1_thread": (_torchcodec(1), "torchcodec"),
    "torchcodec_auto": (_torchcodec(0), "torchcodec"),
    "decord": (decord, "decord2"),
    "opencv_seek": (opencv_seek, "opencv-python-headless"),
    "opencv_grab": (opencv_grab, "opencv-python-headless"),
    "pyav_loop": (pyav_loop, "av"),
    "qwen_vl_utils": (qwen_vl_utils, "qwen-vl-utils"),
}


def decode_rate(path: str, num_packets: int) -> dict[str, float]:
    """Frames a second of libavcodec alone, all cores, without those that nothing refers to."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", usable_cores()
        stream.codec_context.skip_frame = "NONREF"
        begin, decoded, read = time.perf_counter(), 0, 0
        for packet in container.demux(stream):
            decoded += len(packet.decode())
            read += 1
            if read == num_packets:
                decoded += len(stream.codec_context.decode(None))
                break
        seconds = time.perf_counter() - begin
    return {"frames_per_second": decoded / seconds, "kept_share": decoded / read}


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    reader, _ = READERS[request["reader"]]
    # Who first fills much memory after a pause also waits for the machine to get it.
    np.ones(request.get("bytes", 0), dtype=np.uint8)
    reset_peak()
    before = memory("VmRSS")
    begin, cpu_begin = time.perf_counter(), time.process_time()
    pixels = reader(request["path"], request["indices"])
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    sums = [int(picture[::7, ::5].astype(np.int64).sum()) for picture in pixels]
    shape = list(pixels.shape)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": memory("VmHWM") - before,
        "shape": shape,
        "sums": sums,
    }


def memory(field: str) -> float:
    """MiB of a line in this process's status."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def versions() -> dict[str, str]:
    packages = {package for _, package in READERS.values()}
    found = {}
    for package in sorted(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def main() -> None:
    os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print may not disturb the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            work = decode_rate if request.get("rate") else None
            answer = work(request["path"], request["packets"]) if work else _measure(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:120]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
