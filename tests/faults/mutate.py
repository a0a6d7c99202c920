"""Damaged videos by the thousand, and what must hold for each of them.

``test_mutation.py`` takes a few hundred; ``python benchmarks/robustness.py`` takes 10,000.

A corpus is made in seconds; each input is one file of it, damaged in a way that knows the format.
Reading it must end in frames or in a typed error, inside the deadline and the memory limit, with
no picture missing in silence. An input is told by its number alone: the same number is the same
damage on every machine that has the same encoders.
"""

from __future__ import annotations

import io
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from kinema.errors import DecodeDeadline, DecoderCrashed, KinemaError
from kinema.video import Workers
from support.clips import board, clip_bytes

DEADLINE_SECONDS = 20.0
MEMORY_BYTES = 3 << 30
NUM_FRAMES = 6

# --- corpus ---------------------------------------------------------------------------------------

_FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
_CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"g": "10", "bf": "2"}},
    "faststart.mp4": {"container_options": {"movflags": "faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": _FRAGMENTS}, "options": {"g": "8"}},
    "variable.mp4": {"seconds": [i * i / 400 for i in range(30)]},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "10"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10"}},
    "h264.mkv": {"pixel_format": "yuv444p"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.ts": {"options": {"g": "10"}},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "gif.gif": {"codec": "gif", "pixel_format": "rgb8"},
}
_STILLS = ("JPEG", "PNG", "WEBP", "BMP")


def make_corpus() -> dict[str, bytes]:
    """Small files of every common kind by name."""
    corpus = {
        name: clip_bytes(name.rpartition(".")[2], num_frames=30, **how)
        for name, how in _CLIPS.items()
    }
    for kind in _STILLS:
        buffer = io.BytesIO()
        Image.fromarray(board(7)).save(buffer, kind)
        corpus[f"still.{kind.lower()}"] = buffer.getvalue()
    return corpus


# --- damage ---------------------------------------------------------------------------------------

Damage = Callable[[bytearray, random.Random, bytes], bytearray]
"""Damages a file, in place or not; the last argument is another file of the corpus."""

_LIES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_COUNTING_BOXES = (
    *(b"stsz", b"stts", b"ctts", b"stss", b"stsc", b"stco", b"co64", b"elst", b"sbgp"),
    *(b"mvhd", b"mdhd", b"tkhd", b"avc1", b"hvc1", b"av01", b"avcC", b"hvcC", b"trun", b"tfhd"),
)


def flip_bits(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    for _ in range(chance.choice((1, 3, 10, 60, 300))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def flip_payload(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    start = data.find(b"mdat") + 4 if b"mdat" in data else len(data) // 4
    for _ in range(chance.choice((1, 10, 100))):
        data[chance.randrange(start, len(data))] ^= 1 << chance.randrange(8)
    return data


def truncate(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    return data[: chance.randrange(1, len(data))]


def splice(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    """Replace, insert, cut out or repeat a stretch."""
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice((1, 4, 16, 200, 4000)))
    foreign = other[chance.randrange(len(other)) :][: stop - start]
    piece = chance.choice((foreign, bytes(stop - start), chance.randbytes(stop - start), b""))
    kept_until = chance.choice((start, stop))
    return data[:start] + piece + data[kept_until:]


def lie_anywhere(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    """Write telling numbers into the first kilobytes, where every format keeps its counts."""
    for _ in range(chance.choice((1, 2, 8))):
        width = chance.choice((1, 2, 4, 8))
        at = chance.randrange(max(1, min(len(data), 3000) - width))
        number = chance.choice(_LIES) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, chance.choice(("big", "little")))
    return data


def lie_in_boxes(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    """Write telling numbers into the tables of an MP4."""
    known = [kind for kind in _COUNTING_BOXES if kind in data]
    if not known:
        return lie_anywhere(data, chance, other)
    for _ in range(chance.choice((1, 2, 4))):
        at = data.find(chance.choice(known)) + 4 + 4 * chance.randrange(12)
        if at + 4 <= len(data):
            struct.pack_into(">I", data, at, chance.choice((*_LIES, chance.randrange(1 << 32))))
    return data


def cut_boxes(data: bytearray, chance: random.Random, other: bytes) -> bytearray:
    """Remove, repeat, exchange, rename or resize the boxes of an MP4."""
    boxes = list(find_boxes(data))
    if not boxes:
        return splice(data, chance, other)
    start, stop = chance.choice(boxes)
    new_name = chance.choice((b"free", b"moov", b"trak", b"stsz", bytes(4)))
    new_size = struct.pack(">I", chance.choice((*_LIES, stop - start + 8)))
    return chance.choice(
        (
            data[:start] + data[stop:],
            data[:stop] + data[start:],
            _exchanged(data, chance.choice(boxes), (start, stop)),
            data[: start + 4] + new_name + data[start + 8 :],
            data[:start] + new_size + data[start + 4 :],
        )
    )


def _exchanged(data: bytearray, one: tuple[int, int], two: tuple[int, int]) -> bytearray:
    """Two stretches in each other's place; one cut out where they overlap."""
    (a, b), (c, d) = sorted((one, two))
    if b > c:
        return data[:c] + data[d:]
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


_PARENTS = (
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"edts",
    b"moof",
    b"traf",
    b"mvex",
    b"udta",
)


def find_boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
    """Extents of the boxes of an MP4, parents before children."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size = int.from_bytes(data[start : start + 4], "big")
        kind = bytes(data[start + 4 : start + 8])
        if size < 8 or start + size > stop or not kind.isalnum():
            return
        yield start, start + size
        if kind in _PARENTS:
            yield from find_boxes(data, start + 8, start + size)
        start += size


DAMAGES: tuple[Damage, ...] = (
    flip_bits,
    flip_payload,
    truncate,
    splice,
    lie_anywhere,
    lie_in_boxes,
    cut_boxes,
)


@dataclass(frozen=True)
class Input:
    """One damaged file."""

    number: int
    origin: str
    damages: tuple[str, ...]
    data: bytes


def make_input(number: int, corpus: dict[str, bytes]) -> Input:
    """Input number so-and-so; nothing but the number and the corpus decides what it is."""
    chance = random.Random(number)
    origin = chance.choice(sorted(corpus))
    data = bytearray(corpus[origin])
    damages = chance.choices(DAMAGES, k=chance.choice((1, 1, 1, 2, 3)))
    for damage in damages:
        if len(data) > 16:
            data = damage(data, chance, corpus[chance.choice(sorted(corpus))])
    return Input(number, origin, tuple(damage.__name__ for damage in damages), bytes(data))


# --- what must hold -------------------------------------------------------------------------------


@dataclass
class Result:
    """What became of all inputs; the lists hold their numbers."""

    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """"frames", "frames with warnings", or the code of the error."""
    hangs: list[int] = field(default_factory=list)
    worker_crashes: list[int] = field(default_factory=list)
    untyped_errors: list[int] = field(default_factory=list)
    silent_short_reads: list[int] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """True when nothing hung, no picture was missing in silence and every error was typed."""
        return not (self.hangs or self.untyped_errors or self.silent_short_reads)


def examine(result: Result, case: Input, workers: Workers, folder: Path) -> None:
    """Read one input, from memory or from a file, and note what became of it."""
    source: bytes | Path = case.data
    if case.number % 2:
        source = folder / f"input{Path(case.origin).suffix}"
        source.write_bytes(case.data)
    began = time.monotonic()
    outcome = _outcome(result, case.number, workers, source)
    result.slowest_seconds = max(result.slowest_seconds, time.monotonic() - began)
    result.count += 1
    result.outcomes[outcome] += 1


def _outcome(result: Result, number: int, workers: Workers, source: bytes | Path) -> str:
    try:
        frames = workers.load_frames(source, num_frames=NUM_FRAMES)
    except KinemaError as error:
        if isinstance(error, DecodeDeadline):
            result.hangs.append(number)
        elif isinstance(error, DecoderCrashed):
            result.worker_crashes.append(number)
        elif not error.hint or "could not be read (" in str(error):
            result.untyped_errors.append(number)
        return error.code
    if len(frames) < NUM_FRAMES and not frames.warnings and frames.total_frames != 1:
        result.silent_short_reads.append(number)
    return "frames with warnings" if frames.warnings else "frames"


def examine_all(
    numbers: range, folder: Path, *, say: Callable[[Result], None] = lambda _: None
) -> Result:
    """Examine a range of inputs; ``folder`` is where files are written."""
    corpus = make_corpus()
    result = Result()
    with Workers(1, deadline_seconds=DEADLINE_SECONDS, memory_bytes=MEMORY_BYTES) as workers:
        for number in numbers:
            examine(result, make_input(number, corpus), workers, folder)
            say(result)
    return result
