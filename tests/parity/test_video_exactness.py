"""Sampled frames are those that decoding everything gives, in every kind of coding."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from kinema.types import Frames
from kinema.video import load_frames
from kinema.video.disposable import packet_filter
from kinema.video.mp4 import read_sample_tables
from kinema.video.source import open_media
from support.clips import board, make_clip, read_boards


def every_frame(path: Path | bytes) -> Frames:
    frames = load_frames(path, num_frames=10_000)
    return frames


def test_open_groups_of_pictures_lose_no_frame(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none:keyint=20:min-keyint=20:open-gop=1:bframes=4"}
    make_clip(tmp_path / "open.mp4", num_frames=100, codec="libx265", options=options)
    for index in range(15, 45):
        frames = load_frames(tmp_path / "open.mp4", at=[index / 25])
        assert read_boards(frames.pixels) == [index]


def test_temporal_layers_of_hevc_lose_no_frame(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none:keyint=50:temporal-layers=3:bframes=7:b-pyramid=1"}
    make_clip(tmp_path / "t.mp4", num_frames=60, codec="libx265", options=options)
    assert_same_as_sequential(tmp_path / "t.mp4")


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "3", "g": "40", "x264-params": "b-pyramid=normal:ref=4"}),
        ("libx264", {"bf": "3", "g": "40", "x264-params": "open-gop=1"}),
        ("libx265", {"x265-params": "log-level=none:keyint=40:bframes=4"}),
        ("libvpx-vp9", {"g": "40", "lag-in-frames": "16", "auto-alt-ref": "1"}),
        ("libsvtav1", {"g": "40", "preset": "10"}),
        ("mpeg4", {"g": "12", "bf": "2"}),
        ("mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
def test_sampled_pixels_equal_those_of_decoding_everything(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (64, 96, 3), dtype=np.uint8)
    pictures = [np.roll(noise, i, axis=1) + board(i) // 2 for i in range(90)]
    path = tmp_path / "c.mp4"
    make_clip(path, num_frames=90, codec=codec, options=options, pictures=pictures)
    assert_same_as_sequential(path)


def test_frames_of_av1_that_nothing_refers_to_are_found(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", num_frames=64, codec="libsvtav1", options={"preset": "10"})
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        may_drop = packet_filter(stream.codec_context)
        assert may_drop
        dropped = [may_drop(bytes(p)) for p in container.demux(stream) if p.size]
    assert 8 <= sum(dropped) <= 40


def assert_same_as_sequential(path: Path) -> None:
    with av.open(str(path)) as container:
        reference = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    for choice in ({"num_frames": 6}, {"num_frames": 37}, {"single": "last"}, {"at": [1.24]}):
        frames = load_frames(path, **choice)  # type: ignore[arg-type]
        for index, pixels in zip(frames.indices, frames.pixels, strict=True):
            np.testing.assert_array_equal(pixels, reference[index])


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}, {"bf": "0"}, {"bf": "5"}])
def test_sample_tables_say_what_the_packets_say(tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "c.mp4"
    make_clip(path, num_frames=60, options={"g": "20", **options})
    tables = read_sample_tables(open_media(path))
    assert tables is not None
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert tables.pts.tolist() == [p.pts for p in packets]
    assert tables.dts.tolist() == [p.dts for p in packets]
    assert tables.keyframe.tolist() == [p.is_keyframe for p in packets]
    assert tables.discard.tolist() == [p.is_discard for p in packets]


def test_fragmented_files_are_read_from_their_packets(tmp_path: Path) -> None:
    path = tmp_path / "f.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as output:
        stream = output.add_stream("libx264", rate=25, options={"g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(board(i), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert read_sample_tables(open_media(path)) is None
    assert read_boards(every_frame(path).pixels) == list(range(30))
