"""Rows 12 to 14: odd sizes, bombs and very long videos."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinema.errors import DecodeDeadline, NoFrames, TooLarge
from kinema.video import Access, Budget, Workers, load_frames, server_access
from support.clips import board, clip_bytes, make_clip, read_boards

# --- row 12 ---------------------------------------------------------------------------------------


@pytest.mark.fault(12)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (65, 97), (33, 1001)])
def test_odd_sizes_are_kept(height: int, width: int) -> None:
    buffer = io.BytesIO()
    pictures = [np.full((height, width, 3), 60 * i, dtype=np.uint8) for i in range(4)]
    make_clip(
        buffer,
        num_frames=4,
        codec="ffv1",
        pixel_format="bgr0",
        container="matroska",
        height=height,
        width=width,
        pictures=pictures,
    )
    frames = load_frames(buffer.getvalue(), num_frames=4)
    assert frames.pixels.shape == (4, height, width, 3)
    np.testing.assert_array_equal(frames.pixels, np.stack(pictures))


SIZES = pytest.mark.parametrize(("height", "width"), [(9000, 9000), (10000, 8000)])


@pytest.mark.fault(12)
@SIZES
def test_enormous_pictures_are_refused_from_the_header(height: int, width: int) -> None:
    data = clip_bytes("mkv", num_frames=2, codec="ffv1", pixel_format="bgr0")
    lied = ebml_number(ebml_number(data, b"\xb0", width), b"\xba", height)
    with pytest.raises(TooLarge, match=f"{width}×{height}"):
        load_frames(lied)


@pytest.mark.fault(12)
@SIZES
def test_an_enormous_canvas_around_small_pictures_is_refused(height: int, width: int) -> None:
    data = bytearray(clip_bytes("gif", num_frames=2, codec="gif", pixel_format="rgb8"))
    struct.pack_into("<HH", data, 6, width, height)
    with pytest.raises(TooLarge, match=f"{width}×{height}"):
        load_frames(bytes(data))


@pytest.mark.fault(12)
def test_what_ffmpeg_itself_finds_too_large_is_a_typed_error() -> None:
    data = clip_bytes("mkv", num_frames=2, codec="ffv1", pixel_format="bgr0")
    lied = ebml_number(ebml_number(data, b"\xb0", 16384), b"\xba", 16384)
    with pytest.raises((TooLarge, NoFrames)):
        load_frames(lied)


def ebml_number(data: bytes, name: bytes, value: int) -> bytes:
    """Overwrite PixelWidth or PixelHeight of a Matroska file, growing it where it must."""
    at = data.index(name + b"\x81") if name + b"\x81" in data else data.index(name + b"\x82")
    assert data[at + 1] in (0x81, 0x82)
    if data[at + 1] == 0x82:
        return data[: at + 2] + value.to_bytes(2, "big") + data[at + 4 :]
    grown = data[: at + 1] + b"\x82" + value.to_bytes(2, "big") + data[at + 3 :]
    return grow_parents(grown, at)


def grow_parents(data: bytes, at: int) -> bytes:
    """One more byte for the elements Segment, Tracks, TrackEntry and Video that hold ``at``."""
    out = bytearray(data)
    for name in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):
        start = out.rindex(name, 0, at) + len(name)
        width = 9 - out[start].bit_length()
        size = int.from_bytes(out[start : start + width], "big") + 1
        out[start : start + width] = size.to_bytes(width, "big")
    return bytes(out)


@pytest.mark.fault(12)
def test_a_size_that_changes_midway_is_brought_to_the_first() -> None:
    small, large = io.BytesIO(), io.BytesIO()
    make_clip(small, num_frames=10, container="h264", height=64, width=96)
    pictures = [board(i, height=128, width=192) for i in range(10, 20)]
    make_clip(large, num_frames=10, container="h264", height=128, width=192, pictures=pictures)
    frames = load_frames(small.getvalue() + large.getvalue(), num_frames=20)
    assert frames.pixels.shape == (20, 64, 96, 3)
    assert read_boards(frames.pixels) == list(range(20))


# --- row 13 ---------------------------------------------------------------------------------------


def black_bomb(num_frames: int, *, height: int = 1080, width: int = 1920) -> bytes:
    """Many large black frames in few bytes: one coded frame, its packet repeated for ever."""
    buffer = io.BytesIO()
    black = [np.zeros((height, width, 3), dtype=np.uint8)] * 2
    make_clip(
        buffer, num_frames=2, container="matroska", height=height, width=width, pictures=black
    )
    bomb = io.BytesIO()
    with av.open(io.BytesIO(buffer.getvalue())) as source, av.open(bomb, "w", "matroska") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        first, second = (p for p in source.demux(video=0) if p.size)
        first.stream = second.stream = stream
        output.mux(first)
        for i in range(1, num_frames):
            second.pts = second.dts = i * 40
            output.mux_one(second)
    return bomb.getvalue()


_MEASURE = """
import resource, sys
from kinema.video import load_frames
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frames = load_frames(sys.argv[1], num_frames=int(sys.argv[2]), size=int(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(frames), (peak - base) >> 10)
"""


def measured(path: Path, num_frames: int, size: int) -> tuple[int, int]:
    """Frames that came, and mebibytes that reading them took at its peak, in a fresh process."""
    words = [sys.executable, "-c", _MEASURE, str(path), str(num_frames), str(size)]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    count, mebibytes = said.split()
    return int(count), int(mebibytes)


@pytest.mark.fault(13)
def test_memory_follows_the_frames_that_are_taken_and_not_those_that_are_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "bomb.mkv").write_bytes(black_bomb(3000))
    assert (tmp_path / "bomb.mkv").stat().st_size < 1 << 20  # of 18 GB of pictures
    count, mebibytes = measured(tmp_path / "bomb.mkv", 2, 224)
    assert count == 2
    assert mebibytes < 200


@pytest.mark.fault(13)
def test_budgets_stop_a_bomb(tmp_path: Path) -> None:
    bomb = black_bomb(3000)
    limits = {
        "frames": (Budget(frames=100), {"fps": 25}),
        "packets": (Budget(packets=1000), {}),
        "pixels": (Budget(pixels=1920 * 1000), {}),
        "num_bytes": (Budget(num_bytes=10_000), {}),
    }
    for budget, choice in limits.values():
        with pytest.raises(TooLarge) as caught:
            load_frames(bomb, access=Access(budget=budget), **choice)
        assert caught.value.hint


@pytest.mark.fault(13)
def test_the_time_budget_stops_a_long_decoding_without_a_worker() -> None:
    bomb = black_bomb(3000)
    began = time.monotonic()
    with pytest.raises(DecodeDeadline):
        load_frames(bomb, single="last", access=Access(budget=Budget(seconds=0.3)))
    assert time.monotonic() - began < 10


@pytest.mark.fault(13)
def test_a_server_takes_at_most_768_frames() -> None:
    bomb = black_bomb(1000, height=64, width=96)
    access = server_access()
    assert len(load_frames(bomb, num_frames=768, access=access)) == 768
    with pytest.raises(TooLarge, match="768 are allowed"):
        load_frames(bomb, num_frames=769, access=access)


@pytest.mark.fault(13)
@pytest.mark.parametrize("side", [9000, 60_000])
def test_a_huge_png_is_refused_from_its_header(side: int) -> None:
    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    pixels = zlib.compress(bytes(1000))
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + pixels):
        checksum = zlib.crc32(chunk).to_bytes(4, "big")
        data += (len(chunk) - 4).to_bytes(4, "big") + chunk + checksum
    with pytest.raises(TooLarge):
        load_frames(data)


@pytest.mark.fault(13)
def test_pictures_of_a_folder_keep_to_the_budget(tmp_path: Path) -> None:
    for i in range(5):
        Image.fromarray(board(i)).save(tmp_path / f"{i}.png")
    with pytest.raises(TooLarge):
        load_frames(tmp_path, num_frames=5, access=Access(budget=Budget(frames=4)))
    with pytest.raises(TooLarge):
        load_frames(tmp_path, num_frames=1, access=Access(budget=Budget(pixels=1000)))


@pytest.mark.fault(13)
def test_a_worker_stops_a_bomb_at_its_deadline() -> None:
    with Workers(1) as workers, pytest.raises(DecodeDeadline):
        workers.load_frames(
            black_bomb(3000), single="last", access=Access(budget=Budget(seconds=0.3))
        )


# --- row 14 ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ten_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten hours at 25 frames a second: one short clip, its packets repeated, in an MP4."""
    folder = tmp_path_factory.mktemp("long")
    make_clip(folder / "piece.mp4", num_frames=250, options={"g": "125", "bf": "0"})
    with av.open(str(folder / "piece.mp4")) as source:
        packets = [(bytes(p), p.is_keyframe) for p in source.demux(video=0) if p.size]
        with av.open(str(folder / "long.mp4"), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            for i in range(10 * 3600 * 25):
                data, is_keyframe = packets[i % 250]
                packet = av.Packet(data)
                packet.stream, packet.is_keyframe = stream, is_keyframe
                packet.time_base = source.streams.video[0].time_base
                packet.pts = packet.dts = i * 512
                output.mux_one(packet)
    return folder / "long.mp4"


@pytest.mark.fault(14)
@pytest.mark.slow
def test_ten_hours_are_sought_and_not_walked(ten_hours: Path) -> None:
    frames = load_frames(ten_hours, num_frames=8)
    assert frames.total_frames == 900_000
    assert frames.duration_seconds == pytest.approx(36_000, rel=1e-3)
    assert read_boards(frames.pixels) == [i % 250 for i in frames.indices.tolist()]
    count, mebibytes = measured(ten_hours, 8, 64)
    assert count == 8
    assert mebibytes < 400
