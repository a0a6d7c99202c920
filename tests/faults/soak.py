"""Read after read in one process, and what the process holds on to meanwhile."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from kinema.errors import MediaError
from kinema.video import load_frames
from support.clips import make_clip

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Holdings:
    """What a process has at one moment."""

    resident_bytes: int
    descriptors: int
    threads: int
    children: int
    temporary_files: int


def holdings() -> Holdings:
    """Those of this process, after a collection."""
    gc.collect()
    process = psutil.Process()
    return Holdings(
        resident_bytes=process.memory_info().rss,
        descriptors=process.num_fds(),
        threads=threading.active_count(),
        children=len(process.children()),
        temporary_files=len(os.listdir(tempfile.gettempdir())),
    )


def make_files(folder: Path) -> list[Path]:
    """Good, short, damaged and hostile files, as they come in a day."""
    make_clip(folder / "h264.mp4", num_frames=80, height=360, width=640, options={"g": "25"})
    make_clip(folder / "vp9.webm", num_frames=40, codec="libvpx-vp9", height=180, width=320)
    make_clip(folder / "h264.ts", num_frames=40, height=180, width=320)
    make_clip(folder / "one.gif", num_frames=5, codec="gif", pixel_format="rgb8")
    data = (folder / "h264.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: data.index(b"moov") - 4])
    (folder / "noisy.mp4").write_bytes(
        data[:2000] + bytes(len(data) // 3) + data[2000 + len(data) // 3 :]
    )
    (folder / "page.mp4").write_bytes(b"<html>not found")
    return sorted(folder.iterdir())


def soak(files: list[Path], *, reads: int, read: Read | None = None) -> list[Holdings]:
    """Holdings after warming up and then after every tenth of so many reads."""
    read = read or (lambda path: load_frames(path, num_frames=8))
    seen = []
    for number in range(reads):
        with suppress(MediaError):  # half of the files are meant to fail
            read(files[number % len(files)])
        if (number + 1) % max(1, reads // 10) == 0:
            seen.append(holdings())
    return seen


def growth_bytes(seen: list[Holdings]) -> int:
    """Resident memory gained from the middle of a soak to its end: what comes earlier is caches."""
    half = len(seen) // 2
    return max(h.resident_bytes for h in seen[half:]) - max(h.resident_bytes for h in seen[:half])
