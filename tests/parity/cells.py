"""Containers × codecs × what happens to files: each cell a file, read and held against a player.

``test_cells.py`` takes a few of them; ``python benchmarks/containers.py`` takes all and writes the
table in ``docs/video.md``. Files are made, cut and played by the ``ffmpeg`` program, which is
another build than the one inside PyAV; every frame shows its number.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError
from kinema.types import Frames
from kinema.video import load_frames, probe
from support.clips import board, read_board

NUM_FRAMES = 60
HEIGHT, WIDTH = 64, 96
FPS = 25
GROUP = 12
CUT_SECONDS = "0.91"
_SAME_TIME_SECONDS = 2e-3
_KEPT_OF_TAIL, _LOST_OF_HEAD = 0.7, 0.4

_X265 = f"log-level=none:keyint={GROUP}:min-keyint={GROUP}:no-scenecut=1:crf=12"
_PLAIN: dict[str, tuple[str, ...]] = {
    "h264": ("libx264", "-crf", "12", "-bf", "0", "-sc_threshold", "0"),
    "hevc": ("libx265", "-x265-params", f"{_X265}:bframes=0:open-gop=0"),
    "av1": ("libsvtav1", "-preset", "10", "-crf", "20"),
    "vp8": ("libvpx", "-b:v", "900k", "-auto-alt-ref", "1", "-lag-in-frames", "12"),
    "vp9": ("libvpx-vp9", "-b:v", "900k", "-cpu-used", "8", "-lag-in-frames", "12"),
    "mpeg4": ("mpeg4", "-q:v", "3"),
    "xvid": ("libxvid", "-q:v", "3"),
    "mpeg2": ("mpeg2video", "-q:v", "3"),
    "mpeg1": ("mpeg1video", "-q:v", "3"),
    "mjpeg": ("mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"),
    "prores": ("prores_ks", "-pix_fmt", "yuv422p10le"),
    "ffv1": ("ffv1",),
    "theora": ("libtheora", "-q:v", "9"),
    "wmv2": ("wmv2", "-q:v", "3"),
    "msmpeg4": ("msmpeg4", "-q:v", "3"),
    "flv1": ("flv", "-q:v", "3"),
}
"""Encoder and options, without pictures that are reordered where that can be chosen."""
_B_FRAMES: dict[str, tuple[str, ...]] = {
    "h264": ("-bf", "3", "-x264-params", "b-pyramid=normal"),
    "hevc": ("-x265-params", f"{_X265}:bframes=3:open-gop=0"),
    **dict.fromkeys(
        ("mpeg4", "xvid", "mpeg2", "mpeg1"),
        ("-bf", "2", "-flags", "+cgop", "-sc_threshold", "1000000000"),
    ),
}
_OPEN: dict[str, tuple[str, ...]] = {
    "h264": ("-bf", "3", "-x264-params", "open-gop=1"),
    "hevc": ("-x265-params", f"{_X265}:bframes=3:open-gop=1"),
    **dict.fromkeys(("mpeg2", "mpeg1"), ("-bf", "2")),
}
_INTERLACED: dict[str, tuple[str, ...]] = {
    "h264": ("-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    **dict.fromkeys(("mpeg4", "mpeg2"), ("-flags", "+ildct+ilme")),
    "prores": (
        "-flags",
        "+ildct",
    ),
}
_TIMED_FREELY = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "ffv1")

CONTAINERS: dict[str, tuple[str, ...]] = {
    "mp4": ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2", "mjpeg"),
    "mov": ("h264", "hevc", "mpeg4", "mpeg2", "mjpeg", "prores"),
    "fragmented mp4": ("h264", "hevc", "av1", "vp9"),
    "mkv": (
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2", "mpeg1"),
        *("mjpeg", "prores", "ffv1", "theora", "wmv2", "msmpeg4"),
    ),
    "webm": ("vp8", "vp9", "av1"),
    "ts": ("h264", "hevc", "mpeg2", "mpeg1", "mpeg4"),
    "m2ts": ("h264", "mpeg2"),
    "mpg": ("mpeg2", "mpeg1", "h264"),
    "avi": ("h264", "hevc", "mpeg4", "xvid", "mpeg2", "mjpeg", "ffv1", "wmv2", "msmpeg4"),
    "flv": ("h264", "flv1"),
    "nut": ("h264", "mpeg4", "mjpeg", "ffv1"),
    "mxf": ("mpeg2",),
    "wmv": ("wmv2", "msmpeg4"),
    "ogv": ("theora",),
    "ivf": ("vp8", "vp9", "av1"),
    "no container": ("h264", "hevc", "mpeg2", "mpeg4"),
}
_SUFFIXES = {"fragmented mp4": "mp4"}
_RAW_SUFFIXES = {"h264": "264", "hevc": "265", "mpeg2": "m2v", "mpeg4": "m4v"}
_MUXING: dict[str, tuple[str, ...]] = {
    "mp4": ("-movflags", "+faststart"),
    "mov": ("-movflags", "+faststart"),
    "fragmented mp4": ("-movflags", "+frag_keyframe+empty_moov"),
    "m2ts": ("-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "mpg": ("-f", "vob"),
    "wmv": ("-f", "asf"),
}
_CUT_BY_BYTES = ("ts", "m2ts", "mpg", "no container")
_WITHOUT_TIMES = ("avi", "mpg", "mxf", "no container", "m2ts", "ogv")

FATES = (
    *("whole", "cut", "concatenated", "head lost", "tail lost"),
    *("variable rate", "B-frames", "open groups", "interlaced"),
)
_OF_FATE = {"B-frames": _B_FRAMES, "open groups": _OPEN, "interlaced": _INTERLACED}


@dataclass(frozen=True)
class Cell:
    """One file of the table."""

    container: str
    codec: str
    fate: str

    def __str__(self) -> str:
        return f"{self.codec} in {self.container}, {self.fate}"


@dataclass(frozen=True)
class Verdict:
    """What came of a cell."""

    outcome: str
    """"indexed", "front to back", "refused", "not made" or "wrong"."""
    detail: str = ""
    num_frames: int = 0
    players_differ: bool = False
    """The program and PyAV's own loop, two versions of FFmpeg, show different frames; ours are
    those of one of them then."""


def all_cells() -> Iterator[Cell]:
    """Every cell that makes sense: no B-frames where a codec has none."""
    for container, codecs in CONTAINERS.items():
        for codec in codecs:
            for fate in FATES:
                if fate in _OF_FATE and codec not in _OF_FATE[fate]:
                    continue
                if fate == "variable rate" and (
                    container in _WITHOUT_TIMES or codec not in _TIMED_FREELY
                ):
                    continue
                yield Cell(container, codec, fate)


# --- making ---------------------------------------------------------------------------------------


def _run(*words: str | Path, given: bytes | None = None) -> bytes:
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin" if given is None else "-hide_banner", "-y", *words],
        input=given,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise _NotMade(done.stderr.decode(errors="replace").strip().splitlines()[-1:])
    return done.stdout


class _NotMade(Exception):
    """The program at hand cannot make this file."""


@lru_cache(maxsize=1)
def _pictures() -> bytes:
    return b"".join(board(i, height=HEIGHT, width=WIDTH).tobytes() for i in range(NUM_FRAMES))


def _encode(codec: str, fate: str, path: Path, muxing: list[str]) -> Path:
    """The pictures, coded into a container."""
    encoder, *options = _PLAIN[codec]
    options += ["-g", str(GROUP), *_OF_FATE.get(fate, {}).get(codec, ())]
    if "-pix_fmt" not in options:
        options += ["-pix_fmt", "yuv420p"]
    timing = ["-vf", "settb=1/1000,setpts=40*N+11*mod(N*N\\,3)"] if fate == "variable rate" else []
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS)]
    modes = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000"] if timing else []
    coding = ["-c:v", encoder, *options, *muxing]
    _run(*raw, "-i", "-", *timing, *modes, *coding, path, given=_pictures())
    return path


def make_cell(cell: Cell, folder: Path) -> Path:
    """The file of a cell.

    Raises:
        _NotMade: the ffmpeg program has no such encoder, or its muxer refuses.
    """
    suffix = _SUFFIXES.get(cell.container, cell.container)
    if cell.container == "no container":
        suffix = _RAW_SUFFIXES[cell.codec]
    path = folder / f"{str(cell).replace(' ', '_').replace(',', '')}.{suffix}"
    coded_fate = cell.fate if cell.fate in _OF_FATE or cell.fate == "variable rate" else "whole"
    if cell.fate in ("cut", "concatenated", "head lost") and cell.codec in _B_FRAMES:
        coded_fate = "B-frames"
    tag = ["-tag:v", "HEVC"] if (cell.container, cell.codec) == ("avi", "hevc") else []
    muxing = [*tag, *_MUXING.get(cell.container, ())]
    if (cell.container, cell.codec) == ("no container", "mpeg4"):
        muxing += ["-f", "m4v"]  # the suffix alone makes an MP4
    whole = _encode(cell.codec, coded_fate, path.with_stem(f"{path.stem}_source"), muxing)
    if cell.fate == "cut":
        _run("-ss", CUT_SECONDS, "-i", whole, "-c", "copy", *muxing, path)
    elif cell.fate == "concatenated" and cell.container in _CUT_BY_BYTES:
        path.write_bytes(whole.read_bytes() * 2)
    elif cell.fate == "concatenated":
        parts = folder / "parts.txt"
        parts.write_text(f"file '{whole}'\n" * 2)
        _run("-f", "concat", "-safe", "0", "-i", parts, "-c", "copy", *muxing, path)
    elif cell.fate == "head lost" and cell.container in _CUT_BY_BYTES:
        data = whole.read_bytes()
        path.write_bytes(data[round(len(data) * _LOST_OF_HEAD) :])
    elif cell.fate == "head lost":
        _drop_packets(whole, path)
    elif cell.fate == "tail lost":
        data = whole.read_bytes()
        path.write_bytes(data[: round(len(data) * _KEPT_OF_TAIL)])
    else:
        whole.replace(path)
    whole.unlink(missing_ok=True)
    return path


def _drop_packets(whole: Path, path: Path) -> None:
    """A capture that begins in the middle of a group, in a container with a header of its own."""
    try:
        with av.open(str(whole)) as source, av.open(str(path), "w") as output:
            target = output.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
                if number >= GROUP + 5:
                    packet.stream = target
                    output.mux(packet)
    except (ValueError, av.error.FFmpegError) as problem:
        raise _NotMade(str(problem)) from None


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """What the program shows from front to back."""

    boards: list[int]
    seconds: NDArray[np.float64]


def play(path: Path) -> Played:
    """Decode a file with the ffmpeg program, every frame once."""
    times, pictures = path.with_suffix(".times"), path.with_suffix(".rgb")
    each = ("-map", "0:v:0", "-fps_mode", "passthrough")
    outputs = ("-f", "rawvideo", "-pix_fmt", "rgb24", pictures)
    clock = ("-f", "framecrc", "-enc_time_base", "1:90000", times)
    subprocess.run(
        ["ffmpeg", "-v", "quiet", "-nostdin", "-y", "-i", path, *each, *outputs, *each, *clock],
        check=False,
    )
    if not pictures.exists():  # the program could not open the file
        return Played([], np.empty(0))
    raw = np.fromfile(pictures, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    lines = [x for x in times.read_text().splitlines() if not x.startswith("#")]
    seconds = np.array([int(x.split(",")[2]) for x in lines], dtype=np.float64) / 90_000
    times.unlink()
    pictures.unlink()
    is_repeated = np.zeros(len(seconds), dtype=bool)
    is_repeated[1:] = np.diff(seconds) <= 0
    if is_repeated.any():  # pictures without a reference, shown at no time of their own
        seconds[: int(np.flatnonzero(is_repeated)[-1]) + 1] = np.nan
    return Played([read_board(picture) for picture in raw], seconds - seconds[:1])


def play_in_a_loop(path: Path) -> list[int]:
    """Decode a file with PyAV, every frame once, passing over what cannot be decoded."""
    boards: list[int] = []
    try:
        opened = av.open(str(path))
    except av.error.FFmpegError:
        return boards
    with opened as container:
        if not container.streams.video:
            return boards
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                continue
            boards += [read_board(frame.to_ndarray(format="rgb24")) for frame in frames]
    return boards


def measure(cell: Cell, folder: Path) -> Verdict:
    """Make a file, play it, read it, and compare."""
    try:
        path = make_cell(cell, folder)
    except _NotMade as problem:
        return Verdict("not made", str(problem))
    try:
        truth = play(path)
        if (cell.container, cell.fate) == ("no container", "head lost"):
            truth.seconds[:] = np.nan  # what told the rate was lost
        if cell.fate == "tail lost":
            # Of half a packet a decoder shows whatever its memory held, and not all say so.
            truth = Played([*truth.boards[:-1], -1], truth.seconds)
        return _judge(path, truth)
    finally:
        path.unlink()


def _judge(path: Path, truth: Played) -> Verdict:
    looped = play_in_a_loop(path)
    if not looped and not any(board >= 0 for board in truth.boards):
        return Verdict("not made", "neither version of FFmpeg shows a frame")
    try:
        sampled, whole = (load_frames(path, num_frames=count) for count in (8, 10_000))
        reading = probe(path).reading
    except KinemaError as problem:
        return Verdict("refused", type(problem).__name__, len(truth.boards))
    differ = any(board not in (-1, seen) for board, seen in zip(truth.boards, looped, strict=False))
    differ |= len(looped) != len(truth.boards)
    wrong = _wrong(sampled, whole, truth)
    if wrong and differ:
        wrong = _wrong(sampled, whole, Played(looped, np.full(len(looped), np.nan)))
    return Verdict("wrong" if wrong else reading, wrong, len(truth.boards), differ)


def _wrong(sampled: Frames, whole: Frames, truth: Played) -> str:
    wrong = _difference(sampled, truth) or _difference(whole, truth)
    if not wrong and len(whole) != len(truth.boards) and not whole.damaged_frames:
        wrong = f"{len(whole)} frames, played are {len(truth.boards)}"
    return wrong


def _difference(frames: Frames, truth: Played) -> str:
    """What is other than played, of frames that are not said to be damaged."""
    marked = _marked(frames)
    for index, seconds, pixels in zip(frames.indices, frames.seconds, frames.pixels, strict=True):
        if int(index) in marked:
            continue
        if index >= len(truth.boards):
            return f"frame {index} of {len(truth.boards)}"
        seen = read_board(pixels)
        if truth.boards[index] not in (-1, seen):
            return f"frame {index} shows {seen}, played is {truth.boards[index]}"
        is_known = truth.seconds[index] < 10 * NUM_FRAMES  # some muxers write times without sense
        if is_known and abs(seconds - truth.seconds[index]) > _SAME_TIME_SECONDS:
            return f"frame {index} at {seconds:.3f} s, played at {truth.seconds[index]:.3f} s"
    return ""


def _marked(frames: Frames) -> set[int]:
    """Frames that the reader says are damaged; the other decoder may conceal them otherwise."""
    said = [w.partition("corrupt: ")[2].rstrip(".") for w in frames.warnings if "corrupt: " in w]
    return {int(number) for text in said for number in text.split(", ") if number.isdigit()}


def table(measured: list[dict[str, Any]]) -> str:
    """Results as Markdown: a row for each container and codec, a column for each fate."""
    marks = {"not made": "·", "wrong": "**wrong**"}
    found = {(c["container"], c["codec"], c["fate"]): c["outcome"] for c in measured}
    rows = [f"| | {' | '.join(FATES)} |", "|---" * (len(FATES) + 1) + "|"]
    for container, codecs in CONTAINERS.items():
        for codec in codecs:
            outcomes = [found.get((container, codec, fate), "") for fate in FATES]
            said = " | ".join(marks.get(outcome, outcome) for outcome in outcomes)
            rows.append(f"| {codec} in {container} | {said} |")
    return "\n".join(rows)
