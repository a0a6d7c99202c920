"""Rows 9 to 11: clocks, orientations and colours that readers get wrong, against their source."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinema.types import Frames
from kinema.video import load_frames, probe
from support.clips import board, make_clip, read_boards, with_display_matrix

PATCHES = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)],
    dtype=np.uint8,
)


def patches(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    return np.broadcast_to(np.repeat(PATCHES, width // 6, axis=0), (height, width, 3)).copy()


def patch_colours(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    height, width = pixels.shape[:2]
    return pixels[height // 2, width // 12 :: width // 6].astype(np.int64)


def every_frame(path: Path | bytes) -> Frames:
    frames = load_frames(path, num_frames=10_000)
    return frames


def remux(source: Path, path: Path, change: Any, **options: str) -> Path:
    """Copy packets, each passed through ``change(packet, position)``; None drops it."""
    with av.open(str(source)) as inp, av.open(str(path), "w", options=options) as out:
        stream = inp.streams.video[0]
        target = out.add_stream_from_template(stream)
        for position, packet in enumerate(p for p in inp.demux(stream) if p.size):
            changed = change(packet, position)
            if changed is not None:
                changed.stream = target
                out.mux(changed)
    return path


def shifted(ticks_seconds: float) -> Any:
    def change(packet: Any, position: int) -> Any:
        ticks = round(ticks_seconds / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packet

    return change


@pytest.mark.fault(9)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_every_frame_has_its_own_picture_and_time(
    tmp_path: Path, suffix: str, bframes: str
) -> None:
    path = tmp_path / f"c.{suffix}"
    codec = "mpeg4" if suffix == "avi" else "libx264"
    make_clip(path, num_frames=75, codec=codec, options={"bf": bframes, "g": "20"})
    frames = every_frame(path)
    assert read_boards(frames.pixels) == list(range(75))
    np.testing.assert_allclose(frames.seconds, np.arange(75) / 25, atol=1.1e-3)
    assert frames.duration_seconds == pytest.approx(3.0, abs=0.01)


@pytest.mark.fault(9)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    "decoder", ["pyav", pytest.param("torchcodec", marks=pytest.mark.needs_program("ffmpeg"))]
)
def test_a_variable_rate_is_sampled_by_time(tmp_path: Path, suffix: str, decoder: Any) -> None:
    """Thirty frames in the first second, then two a second: indices would lie by seven seconds."""
    truth = [i / 30 for i in range(30)] + [1 + i / 2 for i in range(30)]
    make_clip(tmp_path / f"v.{suffix}", seconds=truth)
    frames = load_frames(tmp_path / f"v.{suffix}", num_frames=5, decoder=decoder)
    assert frames.duration_seconds is not None
    middles = (np.arange(5) + 0.5) * frames.duration_seconds / 5
    on_screen = [sum(t <= middle + 1e-6 for t in truth) - 1 for middle in middles]
    assert read_boards(frames.pixels) == frames.indices.tolist() == on_screen
    np.testing.assert_allclose(frames.seconds, [truth[i] for i in frames.indices], atol=1.1e-3)
    at = load_frames(tmp_path / f"v.{suffix}", at=(0.5, 8.0, 15.4), decoder=decoder)
    assert read_boards(at.pixels) == [15, 44, 58]


@pytest.mark.fault(9)
@pytest.mark.parametrize("seconds", [5.0, 0.4])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_time_begins_at_the_first_picture(tmp_path: Path, suffix: str, seconds: float) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=40, options={"bf": "2"})
    late = remux(tmp_path / "plain.mp4", tmp_path / f"late.{suffix}", shifted(seconds))
    frames = load_frames(late, num_frames=5)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    np.testing.assert_allclose(frames.seconds, frames.indices / 25, atol=1.1e-3)


@pytest.mark.fault(9)
def test_negative_presentation_times_count_from_the_first_picture(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=40, options={"bf": "0"})
    early = remux(
        tmp_path / "plain.mp4",
        tmp_path / "early.mkv",
        shifted(-0.4),
        avoid_negative_ts="disabled",
    )
    frames = every_frame(early)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    np.testing.assert_allclose(np.diff(frames.seconds), 0.04, atol=1.1e-3)


@pytest.mark.fault(9)
def test_an_edit_list_cuts_what_it_says(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=60, options={"bf": "0", "g": "60"})
    data = bytearray((tmp_path / "plain.mp4").read_bytes())
    at = data.index(b"elst") + 4
    assert int.from_bytes(data[at + 4 : at + 8], "big") == 1
    timescale_at = data.index(b"mdhd") + 4 + 12
    timescale = int.from_bytes(data[timescale_at : timescale_at + 4], "big")
    data[at + 8 : at + 12] = (1600).to_bytes(4, "big")  # movie ticks are milliseconds
    data[at + 12 : at + 16] = (timescale * 4 // 5).to_bytes(4, "big")
    (tmp_path / "cut.mp4").write_bytes(data)
    frames = every_frame(tmp_path / "cut.mp4")
    boards = read_boards(frames.pixels)
    assert boards == list(range(20, 60))
    np.testing.assert_allclose(frames.seconds, np.arange(40) / 25, atol=1e-3)


@pytest.mark.fault(9)
def test_missing_times_inside_a_stream_do_not_shift_the_rest(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=40, options={"bf": "0"})
    holes = remux(
        tmp_path / "plain.mp4",
        tmp_path / "holes.mkv",
        lambda packet, position: None if position in (38, 39) else packet,
    )
    assert read_boards(every_frame(holes).pixels) == list(range(38))


@pytest.mark.fault(9)
def test_repeated_times_still_increase(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=20, options={"bf": "0", "g": "1"})

    def stall(packet: Any, position: int) -> Any:
        if position == 10:
            packet.pts = packet.dts = packet.pts - round(Fraction(1, 25) / packet.time_base) + 1
        return packet

    frames = every_frame(remux(tmp_path / "plain.mp4", tmp_path / "stall.mkv", stall))
    assert read_boards(frames.pixels) == list(range(20))
    assert (np.diff(frames.seconds) > 0).all()


MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 3),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: p[::-1, ::-1].transpose(1, 0, 2),
}


@pytest.mark.fault(10)
@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_orientations_come_upright(matrix: tuple[int, int, int, int]) -> None:
    stored = [np.ascontiguousarray(MATRICES[matrix](board(0xA35C + i))) for i in range(3)]
    buffer = io.BytesIO()
    height, width = stored[0].shape[:2]
    make_clip(buffer, num_frames=3, height=height, width=width, container="mp4", pictures=stored)
    data = with_display_matrix(buffer.getvalue(), matrix)
    frames = load_frames(data, num_frames=3, size=64)
    assert frames.pixels.shape == (3, 64, 96, 3)
    assert read_boards(frames.pixels) == [0xA35C, 0xA35D, 0xA35E]
    info = probe(data)
    assert (info.width, info.height) == (96, 64)
    assert info.mirrored == (np.linalg.det(np.array(matrix).reshape(2, 2)) < 0)


@pytest.mark.fault(10)
def test_square_pixels_are_made_of_wide_ones(tmp_path: Path) -> None:
    make_clip(tmp_path / "w.mp4", num_frames=3, sample_aspect_ratio=Fraction(2))
    assert load_frames(tmp_path / "w.mp4", num_frames=1).pixels.shape == (1, 64, 192, 3)


@pytest.mark.fault(11)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv422p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", [5, 1, 9], ids=["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("colour_range", [1, 2], ids=["limited", "full"])
def test_matrix_range_and_depth_give_the_colours_back(
    tmp_path: Path, pixel_format: str, matrix: int, colour_range: int
) -> None:
    path = tmp_path / "c.mp4"
    write_patches(path, pixel_format, matrix, colour_range)
    colours = patch_colours(load_frames(path, num_frames=1).pixels[0])
    assert np.abs(colours - PATCHES).max() <= 4


def write_patches(path: Path, pixel_format: str, matrix: int, colour_range: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, 25)
        context.colorspace, context.color_range = matrix, colour_range
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(patches(), format="rgb24").reformat(
                format=pixel_format, dst_colorspace=matrix, dst_color_range=colour_range
            )
            frame.pts, frame.time_base = i, context.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.fault(11)
def test_grey_and_alpha_become_rgb(tmp_path: Path) -> None:
    make_clip(tmp_path / "g.mp4", num_frames=5, pixel_format="gray")
    make_clip(tmp_path / "a.mov", num_frames=5, codec="qtrle", pixel_format="argb")
    make_clip(tmp_path / "p.mov", num_frames=5, codec="prores_ks", pixel_format="yuva444p10le")
    for name in ("g.mp4", "a.mov", "p.mov"):
        frames = every_frame(tmp_path / name)
        assert read_boards(frames.pixels) == [0, 1, 2, 3, 4]
        assert np.ptp(frames.pixels.astype(int), axis=-1).max() <= 3


def pq_of(sdr: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Code values of an ordinary picture on a screen whose white is 203 cd/m² (BT.2100)."""
    light = (sdr / 255.0) ** 2.4 * 203 / 10_000
    power = light**0.1593017578125
    code = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return np.round(code * 65535).astype(np.uint16)


def hlg_of(sdr: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Code values of a grey picture, white at 203 of 1000 cd/m² (BT.2100)."""
    scene = ((sdr / 255.0) ** 2.4 * 203 / 1000) ** (1 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    return np.round(code * 65535).astype(np.uint16)


@pytest.mark.fault(11)
@pytest.mark.parametrize(("name", "transfer", "encode"), [("pq", 16, pq_of), ("hlg", 18, hlg_of)])
def test_hdr_looks_as_the_ordinary_video_does(
    tmp_path: Path, name: str, transfer: int, encode: Any
) -> None:
    path = tmp_path / "hdr.mp4"
    write_hdr(path, [encode(board(i)) for i in range(4)], transfer)
    frames = every_frame(path)
    assert read_boards(frames.pixels) == [0, 1, 2, 3]
    truth = np.stack([board(i) for i in range(4)]).astype(int)
    dark, bright = truth < 100, truth > 100
    assert np.median(np.abs(frames.pixels.astype(int) - truth)[dark]) <= 3
    # White is 235 of 255: above the knee, so a little darker, and never clipped or grey.
    assert 215 <= np.median(frames.pixels[bright]) <= 240
    assert probe(path).hdr == name


def write_hdr(path: Path, code_values: list[NDArray[np.uint16]], transfer: int) -> None:
    params = "log-level=none:colorprim=bt2020:colormatrix=bt2020nc:range=limited:crf=4:transfer="
    params += {16: "smpte2084", 18: "arib-std-b67"}[transfer]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx265", rate=25, options={"x265-params": params})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p10le"
        context = stream.codec_context
        context.time_base = Fraction(1, 25)
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        for i, codes in enumerate(code_values):
            frame = av.VideoFrame.from_ndarray(codes, format="rgb48le").reformat(
                format="yuv420p10le", dst_colorspace=9, dst_color_range=1
            )
            frame.pts, frame.time_base = i, context.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.fault(10)
def test_fields_of_different_moments_leave_no_comb(tmp_path: Path) -> None:
    tall = np.zeros((64, 96, 3), dtype=np.uint8)
    fields = [tall.copy() for _ in range(12)]
    for moment, field in enumerate(fields):
        field[:, moment * 4 : moment * 4 + 40] = 255
    woven = [
        np.where(np.arange(64)[:, None, None] % 2, fields[2 * i + 1], fields[2 * i])
        for i in range(6)
    ]
    path = tmp_path / "i.mp4"
    flags = {"x264-params": "tff=1", "flags": "+ildct+ilme", "crf": "4"}
    make_clip(path, num_frames=6, pictures=woven, options=flags, pixel_format="yuv422p")
    assert probe(path).interlaced
    for picture in every_frame(path).pixels.astype(int):
        comb = np.abs(picture[1:-1:2] - (picture[:-2:2] + picture[2::2]) / 2)
        assert comb.mean() < 3
