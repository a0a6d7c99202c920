"""Read after read in one process, and what the process holds on to meanwhile.

It is a process of its own, whose allocator returns what is freed: in one that has run a thousand
tests, free memory that is kept for later moves about more than a leak would.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kinema.errors import MediaError
from kinema.video import Workers, load_frames
from support.clips import make_clip

Read = Callable[[Path], object]

READERS = ("here", "worker", "leaking")
"""Who reads: this process, a worker of it, or one that forgets to let go of 64 KiB a read."""
_PLATEAUS = 12
_LEAK_BYTES = 1 << 16
_RETURNING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
"""Makes glibc keep no more free memory than a few pages."""


@dataclass(frozen=True)
class Holdings:
    """What a process and its workers have at one moment."""

    resident_bytes: int
    descriptors: int
    threads: int
    children: int
    temporary_files: int


def holdings() -> Holdings:
    """Those of this process, after a collection and after free memory went back to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    family = [psutil.Process(), *psutil.Process().children()]
    return Holdings(
        resident_bytes=sum(process.memory_info().rss for process in family),
        descriptors=sum(process.num_fds() for process in family),
        threads=threading.active_count() + sum(process.num_threads() for process in family[1:]),
        children=len(family) - 1,
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


def soak(files: Sequence[Path], read: Read, *, reads: int) -> list[Holdings]:
    """Holdings at as many moments of so many reads, after each file has been read twice."""
    _read_all(files, read, reads=2 * len(files))
    seen = [holdings()]
    for plateau in range(_PLATEAUS):
        share = reads * (plateau + 1) // _PLATEAUS - reads * plateau // _PLATEAUS
        _read_all(files, read, reads=share)
        seen.append(holdings())
    return seen


def _read_all(files: Sequence[Path], read: Read, *, reads: int) -> None:
    for number in range(reads):
        with suppress(MediaError):  # half of the files are meant to fail
            read(files[number % len(files)])


def growth_bytes(seen: Sequence[Holdings]) -> int:
    """Resident memory gained from the first half of the plateaus to the second, lowest to lowest.

    Memory that is in use for a moment lifts single plateaus; a leak lifts the lowest as well.
    """
    half = len(seen) // 2
    lowest = [min(h.resident_bytes for h in part) for part in (seen[:half], seen[half:])]
    return lowest[1] - lowest[0]


def soak_apart(*, reads: int, reader: str = "here") -> list[Holdings]:
    """:func:`soak` in a fresh process with a temporary folder of its own."""
    words = [sys.executable, "-m", "faults.soak", "--reads", str(reads), "--reader", reader]
    with tempfile.TemporaryDirectory() as folder:
        places = {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": folder}
        environment = os.environ | _RETURNING | places
        done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [Holdings(**moment) for moment in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--reader", choices=READERS, default="here")
    chosen = parser.parse_args()
    kept: list[bytes] = []

    def leak(path: Path) -> None:
        kept.append(os.urandom(_LEAK_BYTES))
        load_frames(path, num_frames=8)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        read: Read = leak if chosen.reader == "leaking" else _reading(load_frames)
        if chosen.reader == "worker":
            read = _reading(stack.enter_context(Workers(1)).load_frames)
        seen = soak(make_files(Path(folder)), read, reads=chosen.reads)
    print(json.dumps([asdict(moment) for moment in seen]))


def _reading(load: Callable[..., object]) -> Read:
    return lambda path: load(path, num_frames=8)


if __name__ == "__main__":
    main()
