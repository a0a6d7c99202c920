"""Rows 3, 5 to 8: damaged, tiny and lying files."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinema.__main__ import main
from kinema.errors import DecodeFailed, MediaError, NoFrames, NoVideoStream
from kinema.types import Frames
from kinema.video import load_frames, plan, probe
from support.clips import board, clip_bytes, make_clip, read_boards

FASTSTART = {"movflags": "faststart"}

# --- row 3 ----------------------------------------------------------------------------------------


def two_tracks(path: Path, *, cover: bool) -> Path:
    """Boards from 0, and before or beside them boards from 100 or a cover picture."""
    with av.open(str(path), "w") as output:
        if cover:
            first = output.add_stream("mjpeg", rate=25)
            first.pix_fmt, first.disposition = "yuvj420p", av.stream.Disposition.attached_pic
        else:
            first = output.add_stream("libx264", rate=25)
            first.pix_fmt = "yuv420p"
        second = output.add_stream("libx264", rate=25)
        second.pix_fmt = "yuv420p"
        for stream in (first, second):
            stream.height, stream.width = 64, 96
        for stream, start, count in ((first, 100, 1 if cover else 10), (second, 0, 10)):
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(board(start + i), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


@pytest.mark.fault(3)
def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "cover.mp4", cover=True)
    frames = load_frames(path, num_frames=5)
    assert read_boards(frames.pixels) == frames.indices.tolist()


@pytest.mark.fault(3)
def test_of_several_tracks_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "two.mp4", cover=False)
    frames = load_frames(path, num_frames=5)
    assert read_boards(frames.pixels) == [i + 100 for i in frames.indices.tolist()]
    assert any("2 video tracks" in warning for warning in probe(path).warnings)


@pytest.mark.fault(3)
@pytest.mark.parametrize("head", [b"ID3\x04", b"fLaC", b"RIFF\0\0\0\0WAVE", b"\xff\xfb\x90\x00"])
def test_sound_files_are_named_as_such(head: bytes) -> None:
    with pytest.raises(NoVideoStream, match="only audio"):
        load_frames(head + bytes(range(128, 256)) * 20)


# --- row 5 ----------------------------------------------------------------------------------------


@pytest.mark.fault(5)
@pytest.mark.parametrize("num_frames", [8, 60])
def test_a_file_cut_at_a_third_says_how_much_of_it_was_decoded(num_frames: int) -> None:
    data = clip_bytes(num_frames=60, options={"g": "12"}, container_options=FASTSTART)
    frames = load_frames(data[: len(data) // 3 + 2000], num_frames=num_frames)
    assert 0 < len(frames) < num_frames
    assert f"Decoded {len(frames)} of {num_frames} frames." in frames.warnings
    assert read_boards(frames.pixels) == frames.indices.tolist()


@pytest.mark.fault(5)
def test_strict_makes_an_error_of_missing_frames() -> None:
    data = clip_bytes(num_frames=60, options={"g": "12"}, container_options=FASTSTART)
    assert len(load_frames(data, num_frames=60, strict=True)) == 60
    with pytest.raises(DecodeFailed, match=r"Decoded \d+ of 60 frames"):
        load_frames(data[: len(data) // 3 + 2000], num_frames=60, strict=True)


@pytest.mark.fault(5)
def test_the_record_of_an_answer_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clip_bytes(num_frames=60, options={"g": "12"}, container_options=FASTSTART)
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 3 + 2000])
    words = ["chat", str(tmp_path / "cut.mp4"), "what?", "--model", "echo", "--num-frames", "60"]
    assert main([*words, "--json"]) == 0
    (seen,) = json.loads(capsys.readouterr().out)["frames"]
    assert any(w == f"Decoded {seen['num_frames']} of 60 frames." for w in seen["warnings"])
    assert main([*words, "--strict"]) == 1
    assert "of 60 frames" in capsys.readouterr().err


@pytest.mark.fault(5)
@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_formats_without_a_table_give_what_is_there(container: str) -> None:
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=60, container=container, options={"g": "12"})
    data = buffer.getvalue()
    frames = load_frames(data[: len(data) // 2], num_frames=60)
    assert 0 < len(frames) < 60
    assert frames.warnings
    assert read_boards(frames.pixels)[:-1] == frames.indices.tolist()[:-1]


# --- row 6 ----------------------------------------------------------------------------------------


@pytest.mark.fault(6)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_damage_that_the_decoder_notices_is_said(codec: str) -> None:
    data = bytearray(
        clip_bytes(num_frames=60, codec=codec, height=240, width=320, options={"g": "60"})
    )
    chance = random.Random(1)
    body = data.index(b"mdat") + 4
    for _ in range(200):
        data[chance.randrange(body + 500, len(data) * 2 // 3)] ^= 1 << chance.randrange(8)
    try:
        frames = load_frames(bytes(data), num_frames=60)
    except NoFrames:
        return
    # Which of the two it is depends on how many threads decode.
    said = ("damaged packets", "marked as corrupt")
    assert any(words in warning for words in said for warning in frames.warnings), frames.warnings


@pytest.mark.fault(6)
def test_frames_that_the_decoder_marks_as_corrupt_are_counted() -> None:
    """Few flips raise no error in MPEG-4: it conceals them and says so frame by frame."""
    data = bytearray(
        clip_bytes(num_frames=60, codec="mpeg4", height=240, width=320, options={"g": "60"})
    )
    chance = random.Random(1)
    body = data.index(b"mdat") + 4
    for _ in range(20):
        data[chance.randrange(body + 500, len(data) * 2 // 3)] ^= 1 << chance.randrange(8)
    frames = load_frames(bytes(data), num_frames=60)
    assert any("of 60 frames are marked as corrupt" in w for w in frames.warnings)


# --- row 7 ----------------------------------------------------------------------------------------


@pytest.mark.fault(7)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("container", ["mp4", "matroska", "gif"])
def test_one_and_two_frames_are_videos(count: int, container: str) -> None:
    codec = {"codec": "gif", "pixel_format": "rgb8"} if container == "gif" else {}
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=count, container=container, **codec)  # type: ignore[arg-type]
    frames = load_frames(buffer.getvalue(), num_frames=8)
    assert read_boards(frames.pixels) == list(range(count))
    assert frames.warnings == (f"Asked for 8 frames, the video has {count}.",)


@pytest.mark.fault(7)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_still_picture_is_a_video_of_one_frame(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(board(9)).save(buffer, kind)
    assert read_boards(load_frames(buffer.getvalue(), num_frames=8).pixels) == [9]


@pytest.mark.fault(7)
def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    pages = [Image.fromarray(board(i)) for i in range(6)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=200)
    frames = load_frames(tmp_path / "a.gif", num_frames=3)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert frames.duration_seconds == pytest.approx(1.2, abs=0.21)


# --- row 8 ----------------------------------------------------------------------------------------


def overwritten(data: bytes, box: bytes, offset: int, value: int, width: int = 4) -> bytes:
    out = bytearray(data)
    at = out.index(box) + 4 + offset
    out[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")
    return bytes(out)


LIES = {
    "movie length x 10": (b"mvhd", 16, 10 * 2400),
    "movie length 2^32-1": (b"mvhd", 16, 0xFFFFFFFF),
    "movie timescale 0": (b"mvhd", 12, 0),
    "track length": (b"tkhd", 20, 0x7FFFFFFF),
    "media length": (b"mdhd", 16, 0xFFFFFFFF),
    "media timescale 1": (b"mdhd", 12, 1),
    "sample count x 10": (b"stsz", 8, 600),
    "sample count 2^32-1": (b"stsz", 8, 0xFFFFFFFF),
    "sample count -17465751056060804": (b"stsz", 8, -17465751056060804),
    "run length": (b"stts", 8, 0x7FFFFFFF),
    "run count": (b"stts", 4, 0xFFFFFFFF),
    "chunk offset": (b"stco", 8, 0xFFFFFFF0),
    "key frame number": (b"stss", 8, 0xFFFFFFFF),
}


@pytest.mark.fault(8)
@pytest.mark.parametrize("lie", LIES)
def test_headers_are_not_believed(lie: str) -> None:
    box, offset, value = LIES[lie]
    data = overwritten(clip_bytes(num_frames=60, options={"g": "12"}), box, offset, value)
    try:
        frames = load_frames(data, num_frames=8)
    except MediaError as error:
        assert error.hint  # noqa: PT017  frames or a typed error, either is right
        return
    check_sober(frames)
    assert frames.indices.tolist() == list(plan(data).indices)


def check_sober(frames: Frames) -> None:
    """Counts and times that can be true of a clip of 60 frames."""
    assert frames.total_frames is not None
    assert 0 < frames.total_frames <= 600
    assert np.isfinite(frames.seconds).all()
    assert frames.seconds[0] >= 0
    assert len(frames) == 8 or frames.warnings


@pytest.mark.fault(8)
def test_a_count_that_the_file_cannot_hold_costs_no_memory() -> None:
    """Fifty million samples of one size, claimed in sixteen bytes."""
    data = clip_bytes(num_frames=60)
    count = 49_999_999
    lied = overwritten(overwritten(data, b"stsz", 4, 700), b"stsz", 8, count)
    lied = overwritten(lied, b"stts", 8, count)
    tracemalloc.start()
    try:
        check_sober(load_frames(lied, num_frames=8))
    except MediaError as error:
        assert error.hint  # noqa: PT017
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 << 20


@pytest.mark.fault(8)
def test_an_avi_that_claims_any_length_is_counted() -> None:
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=30, codec="mpeg4", container="avi")
    data = bytearray(buffer.getvalue())
    at = data.index(b"avih") + 8 + 16
    struct.pack_into("<I", data, at, 0x7FFFFFFF)
    frames = load_frames(bytes(data), num_frames=4)
    assert frames.total_frames == 30
