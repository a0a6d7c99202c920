"""Where packets are no frames: the same frames and times as decoding from front to back."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinema.video import cache, find_shots, load_frames, plan, probe
from kinema.video.indexing import index_video
from kinema.video.mp4 import read_sample_tables
from kinema.video.source import open_media
from parity.cells import play_in_a_loop
from support.clips import make_clip, read_boards
from support.field_coded import write_field_coded

HEVC = "log-level=none:keyint=10:min-keyint=10:open-gop=1:bframes=3:no-scenecut=1"


def played(path: Path) -> list[int]:
    """The boards that a plain loop over the file sees, from front to back."""
    return play_in_a_loop(path)


def assert_as_played(
    path: Path, boards: Sequence[int] | None = None, *, fps: float = 25, reading: str | None = None
) -> None:
    """Sampled and whole, the frames are those of a plain loop, a fixed step apart."""
    truth = played(path)
    assert truth == list(truth if boards is None else boards)
    sampled = load_frames(path, num_frames=8)
    assert read_boards(sampled.pixels) == [truth[i] for i in sampled.indices]
    assert sampled.total_frames == len(truth)
    assert len(sampled) == 8
    np.testing.assert_allclose(sampled.seconds, sampled.indices / fps, atol=1.1e-3)
    assert sampled.damaged_frames == 0
    whole = load_frames(path, num_frames=10_000)
    assert read_boards(whole.pixels) == truth
    assert whole.duration_seconds == pytest.approx(len(truth) / fps, abs=2e-3)
    assert list(plan(path).indices) == sampled.indices.tolist()
    info = probe(path)
    assert info.num_frames == len(truth)
    if reading:
        assert info.reading == reading


def ffmpeg(*words: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, words)], check=True)


# --- edit lists -----------------------------------------------------------------------------------


def with_edit(data: bytes, begin_seconds: float, end_seconds: float) -> bytes:
    """The same MP4, of which an edit list shows a part."""
    changed = bytearray(data)
    at = data.index(b"elst") + 4
    assert int.from_bytes(data[at + 4 : at + 8], "big") == 1
    scale_at = data.index(b"mdhd") + 4 + 12
    ticks = int.from_bytes(data[scale_at : scale_at + 4], "big")
    was = int.from_bytes(data[at + 12 : at + 16], "big")
    milliseconds = round((end_seconds - begin_seconds) * 1000)  # FFmpeg's ticks of a movie
    changed[at + 8 : at + 12] = milliseconds.to_bytes(4, "big")
    changed[at + 12 : at + 16] = (was + round(begin_seconds * ticks)).to_bytes(4, "big")
    return bytes(changed)


@pytest.mark.fault(9)
@pytest.mark.parametrize("bframes", ["0", "2"])
@pytest.mark.parametrize("begin_seconds", [0.9, 0.915, 1.2, 1.233])
def test_an_edit_that_begins_anywhere_shows_what_players_show(
    tmp_path: Path, begin_seconds: float, bframes: str
) -> None:
    make_clip(tmp_path / "whole.mp4", num_frames=60, options={"g": "10", "bf": bframes})
    path = tmp_path / "cut.mp4"
    path.write_bytes(with_edit((tmp_path / "whole.mp4").read_bytes(), begin_seconds, 2.4))
    first = int(np.ceil(begin_seconds * 25 - 1e-6))
    assert_as_played(path, range(first, 60), reading="indexed")


@pytest.mark.fault(9)
def test_tables_and_packets_of_an_edited_file_agree(tmp_path: Path) -> None:
    make_clip(tmp_path / "whole.mp4", num_frames=60, options={"g": "10", "bf": "2"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(with_edit((tmp_path / "whole.mp4").read_bytes(), 1.233, 2.4))
    tables = read_sample_tables(open_media(path))
    assert tables is not None
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert tables.pts.tolist() == [p.pts for p in packets]
    assert tables.discard.tolist() == [p.is_discard for p in packets]


@pytest.mark.fault(9)
@pytest.mark.needs_program("ffmpeg")
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_lossless_cut_is_read_from_where_it_begins(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    options = {"x265-params": HEVC} if codec == "libx265" else {"g": "30", "bf": "2"}
    make_clip(tmp_path / "whole.mp4", num_frames=100, codec=codec, options=options)
    path = tmp_path / f"cut.{suffix}"
    ffmpeg("-ss", "1.31", "-i", tmp_path / "whole.mp4", "-c", "copy", path)
    assert_as_played(path, reading="indexed")


# --- reordered pictures in containers that do not say so ------------------------------------------


@pytest.mark.fault(9)
@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg1video"])
@pytest.mark.parametrize("flags", ["", "+ildct+ilme"])
def test_program_streams_are_decoded_from_front_to_back(
    tmp_path: Path, codec: str, flags: str
) -> None:
    options = {"g": "12", "bf": "2"}
    if flags and codec == "mpeg2video":
        options["flags"] = flags
    container = "vob" if codec == "mpeg2video" else "mpeg"
    path = tmp_path / "m.mpg"
    make_clip(path, num_frames=60, codec=codec, container=container, options=options)
    assert_as_played(path, range(60), reading="front to back")


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "2", "g": "20"}),
        ("mpeg4", {"bf": "2", "g": "12"}),
    ],
)
def test_reordered_pictures_in_avi_come_in_the_order_of_showing(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    path = tmp_path / "c.avi"
    make_clip(path, num_frames=60, codec=codec, options=options)
    assert_as_played(path, range(60), reading="front to back")


@pytest.mark.fault(9)
@pytest.mark.needs_program("ffmpeg")
def test_hevc_in_avi_comes_in_the_order_of_showing(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.mp4", num_frames=60, codec="libx265", options={"x265-params": HEVC})
    path = tmp_path / "c.avi"
    ffmpeg("-i", tmp_path / "c.mp4", "-c", "copy", "-tag:v", "HEVC", path)
    assert_as_played(path, range(60), reading="front to back")


@pytest.mark.fault(9)
@pytest.mark.parametrize("codec", ["mjpeg", "ffv1", "huffyuv", "msmpeg4v3", "wmv2"])
def test_an_avi_without_reordered_pictures_is_indexed(tmp_path: Path, codec: str) -> None:
    pixels = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p"}.get(codec, "yuv420p")
    path = tmp_path / "c.avi"
    make_clip(path, num_frames=40, codec=codec, pixel_format=pixels)
    assert_as_played(path, range(40), reading="indexed")


_USER_DATA = b"\0\0\1\xb2DivX503b1393p"
_CODED, _NOT_CODED = b"\0\0\1\xb6", b"\0\0\1\xb6\x56\xc1\x7f"


def write_packed(path: Path, *, num_frames: int) -> Path:
    """XviD's packed bitstream: a later picture and the one shown before it share a packet, and
    the next packet is empty of a picture."""
    plain = path.with_name("plain.avi")
    make_clip(plain, num_frames=num_frames, codec="mpeg4", options={"bf": "1", "g": "12"})
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        contents = [bytes(p) for p in packets]
        contents[0] = contents[0].replace(_CODED, _USER_DATA + _CODED, 1)
        is_shown_early = [content[content.index(_CODED) + 4] >> 6 == 2 for content in contents]
        for number, early in enumerate(is_shown_early):
            if early:
                contents[number - 1] += contents[number]
                contents[number] = _NOT_CODED
        for packet, content in zip(packets, contents, strict=True):
            packed = av.Packet(content)
            packed.stream, packed.time_base = stream, packet.time_base
            packed.pts = packed.dts = packet.dts
            packed.is_keyframe = packet.is_keyframe
            output.mux(packed)
    return path


@pytest.mark.fault(9)
def test_packed_bitstreams_of_xvid_are_unpacked(tmp_path: Path) -> None:
    path = write_packed(tmp_path / "packed.avi", num_frames=49)
    assert_as_played(path, range(49), reading="front to back")


@pytest.mark.fault(9)
@pytest.mark.needs_program("ffmpeg")
def test_what_xvid_itself_writes_is_read_as_it_is_played(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", num_frames=60, options={"crf": "4"})
    path = tmp_path / "xvid.avi"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c:v", "libxvid", "-bf", "2", "-g", "12", path)
    assert_as_played(path)


@pytest.mark.fault(10)
@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
@pytest.mark.parametrize("joined", [False, True])
def test_two_coded_fields_are_one_frame(tmp_path: Path, suffix: str, joined: bool) -> None:
    path = write_field_coded(tmp_path / f"f.{suffix}", num_frames=24, joined=joined)
    assert_as_played(path, range(24), reading="front to back")
    assert probe(path).interlaced


@pytest.mark.fault(10)
@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_interlaced_frames_that_are_coded_whole_stay_indexed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"i.{suffix}"
    flags = {"x264-params": "tff=1", "flags": "+ildct+ilme", "g": "20", "bf": "2"}
    make_clip(path, num_frames=60, options=flags)
    assert_as_played(path, range(60), reading="indexed")


@pytest.mark.fault(9)
def test_pictures_of_vp8_that_are_never_shown_are_not_counted(tmp_path: Path) -> None:
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30"}
    path = tmp_path / "v.webm"
    make_clip(path, num_frames=90, codec="libvpx", options=options, bit_rate=300_000)
    assert_as_played(path, range(90), reading="indexed")


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.fault(9)
@pytest.mark.parametrize("later_seconds", [0, 7200])
def test_clips_put_behind_each_other_are_shown_one_after_the_other(
    tmp_path: Path, later_seconds: int
) -> None:
    make_clip(tmp_path / "a.ts", num_frames=50, options={"g": "10", "bf": "2"})
    offset = {"output_ts_offset": str(later_seconds)}
    make_clip(tmp_path / "b.ts", num_frames=50, options={"g": "10"}, container_options=offset)
    path = tmp_path / "ab.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert_as_played(path, [*range(50), *range(50)], reading="front to back")
    assert any("set anew at frame 50" in w for w in load_frames(path, num_frames=2).warnings)


def cut_packets(
    source: Path, path: Path, first: int, *, without_time: tuple[int, ...] = ()
) -> Path:
    """The packets from ``first`` on, as a capture or a lossless cut begins."""
    with av.open(str(source)) as inp, av.open(str(path), "w") as out:
        target = out.add_stream_from_template(inp.streams.video[0])
        for number, packet in enumerate(p for p in inp.demux(video=0) if p.size):
            if number >= first:
                packet.stream = target
                out.mux(packet)
    return path


@pytest.mark.fault(5)
@pytest.mark.parametrize("suffix", ["ts", "mkv"])
@pytest.mark.parametrize(
    ("codec", "options", "first"),
    [
        ("libx264", {"g": "20", "bf": "2"}, 7),
        ("libx264", {"x264-params": "open-gop=1", "g": "20", "bf": "2"}, 13),
        ("mpeg2video", {"g": "12", "bf": "2"}, 7),
        ("libx265", {"x265-params": HEVC}, 5),
    ],
)
def test_a_capture_that_begins_anywhere_begins_with_its_first_picture(
    tmp_path: Path, codec: str, options: dict[str, str], first: int, suffix: str
) -> None:
    make_clip(tmp_path / "whole.ts", num_frames=80, codec=codec, options=options)
    path = cut_packets(tmp_path / "whole.ts", tmp_path / f"cut.{suffix}", first)
    truth = played(path)
    assert 40 < len(truth) < 80
    assert_as_played(path, truth, reading="indexed")


@pytest.mark.fault(5)
@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_leading_pictures_of_a_stream_cut_at_an_open_group_are_left_out(
    tmp_path: Path, suffix: str
) -> None:
    make_clip(tmp_path / "o.ts", num_frames=80, codec="libx265", options={"x265-params": HEVC})
    with av.open(str(tmp_path / "o.ts")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    leading = [p.pts < packets[keys[2]].pts for p in packets[keys[2] + 1 : keys[2] + 4]]
    assert any(leading)
    path = cut_packets(tmp_path / "o.ts", tmp_path / f"cut.{suffix}", keys[2])
    assert_as_played(path, reading="indexed")


@pytest.mark.fault(5)
@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", "mkv"), ("ffv1", "mkv")])
def test_packets_that_no_decoder_takes_are_passed_over(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    make_clip(tmp_path / "whole.mkv", num_frames=60, codec=codec, options={"g": "12"})
    path = cut_packets(tmp_path / "whole.mkv", tmp_path / f"cut.{suffix}", 5)
    assert_as_played(path, range(12, 60), reading="indexed")


@pytest.mark.fault(5)
@pytest.mark.parametrize("codec", ["wmv2", "msmpeg4v3"])
def test_an_avi_that_lost_its_index_calls_every_packet_a_key_and_is_not_believed(
    tmp_path: Path, codec: str
) -> None:
    path = tmp_path / "c.avi"
    make_clip(path, num_frames=60, codec=codec, options={"g": "12"})
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    assert played(path) == list(range(60))
    frames = load_frames(path, at=[i / 25 for i in (5, 17, 23, 30)])
    assert read_boards(frames.pixels) == frames.indices.tolist() == [5, 17, 23, 30]
    assert any("a key packet is no key" in warning for warning in frames.warnings)


@pytest.mark.fault(9)
def test_packets_without_times_do_not_make_the_clock_drift(tmp_path: Path) -> None:
    """MKV of a cut open group: FFmpeg gives the first leading picture no time."""
    make_clip(tmp_path / "o.mp4", num_frames=100, codec="libx265", options={"x265-params": HEVC})
    path = tmp_path / "cut.mkv"
    with av.open(str(tmp_path / "o.mp4")) as inp, av.open(str(path), "w") as out:
        stream = inp.streams.video[0]
        inp.seek(round(1.3 / stream.time_base), stream=stream)
        target = out.add_stream_from_template(stream)
        for packet in inp.demux(stream):
            if packet.size:
                packet.stream = target
                out.mux(packet)
    assert_as_played(path)


@pytest.mark.fault(8)
def test_one_damaged_time_is_said_where_it_makes_a_clip_long(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    make_clip(tmp_path / "c.mp4", num_frames=60, options={"g": "10", "bf": "0"})
    with av.open(str(tmp_path / "c.mp4")) as inp, av.open(str(path), "w") as out:
        target = out.add_stream_from_template(inp.streams.video[0])
        for number, packet in enumerate(p for p in inp.demux(video=0) if p.size):
            packet.stream = target
            if number == 59:
                packet.pts = packet.dts = packet.pts + round(3 * 3600 / packet.time_base)
            out.mux(packet)
    frames = load_frames(path, num_frames=8)
    assert any("time stamp may be damaged" in warning for warning in frames.warnings)
    assert any("time stamp may be damaged" in warning for warning in probe(path).warnings)


@pytest.mark.fault(8)
def test_one_damaged_time_in_the_middle_moves_no_other_frame(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.ts", num_frames=60, options={"g": "10", "bf": "0"})
    data = bytearray((tmp_path / "c.ts").read_bytes())
    with av.open(str(tmp_path / "c.ts")) as container:
        packet = [p for p in container.demux(video=0) if p.size][30]
    at = packet.pos + data[packet.pos :].index(b"\0\0\1\xe0") + 9
    data[at + 1] ^= 0x40  # a bit of the presentation time: an hour and a half
    path = tmp_path / "damaged.ts"
    path.write_bytes(data)
    frames = load_frames(path, num_frames=60)
    assert read_boards(frames.pixels) == list(range(60))
    np.testing.assert_allclose(frames.seconds, np.arange(60) / 25, atol=1.1e-3)
    assert frames.warnings


# --- promises that do not hold --------------------------------------------------------------------


def test_a_seek_that_finds_nothing_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index whose times are all one tick off, as any mistake of ours in an edit list makes."""
    path = tmp_path / "c.mkv"
    make_clip(path, num_frames=60, options={"g": "10", "bf": "2"})
    made: list[Any] = []

    def mistaken(media: Any) -> Any:
        index = index_video(media)
        made.append(replace(index, pts=index.pts + 1))
        return made[-1]

    monkeypatch.setattr(cache, "index_video", mistaken)
    frames = load_frames(path, num_frames=8)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert frames.damaged_frames == frames.damaged_packets == 0
    assert sum("decoded from front to back" in warning for warning in frames.warnings) == 1
    again = load_frames(path, at=[1.0])
    assert read_boards(again.pixels) == [25]
    assert len(made) == 1
    assert probe(path).reading == "front to back"


def test_pictures_of_a_file_that_breaks_its_promise_are_counted_for_shots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scenedetect")
    path = tmp_path / "c.mkv"
    pictures = [np.full((64, 96, 3), 30 if i < 30 else 220, np.uint8) for i in range(60)]
    make_clip(path, num_frames=60, options={"g": "10", "bf": "2"}, pictures=pictures)
    monkeypatch.setattr(
        cache, "index_video", lambda media: replace(i := index_video(media), pts=i.pts + 1)
    )
    assert [shot.start_index for shot in find_shots(path)] == [0, 30]
