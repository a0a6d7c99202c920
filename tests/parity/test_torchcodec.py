"""The second decoder gives the pictures of the first."""

from __future__ import annotations

import importlib.util
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kinema.video import load_frames
from parity.test_odd_containers import with_edit
from support.clips import clip_bytes, make_clip, read_boards, with_display_matrix

if importlib.util.find_spec("torchcodec") is None:
    pytest.skip("torchcodec is not installed", allow_module_level=True)

# torchcodec loads the shared libraries of an FFmpeg that is installed beside its program.
pytestmark = pytest.mark.needs_program("ffmpeg")

CLIPS = {
    "h264.mp4": {"options": {"bf": "3", "g": "20"}},
    "variable.mp4": {"seconds": [i / 30 for i in range(20)] + [1 + i / 3 for i in range(20)]},
    "hevc10.mp4": {
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "options": {"x265-params": "log-level=none:keyint=12"},
    },
    "hdr.mp4": {
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "options": {"x265-params": "log-level=none:transfer=smpte2084:colorprim=bt2020"},
    },
    "alpha.mov": {"codec": "qtrle", "pixel_format": "argb"},
    "full.mp4": {"color_range": 2, "colorspace": 1},
    "444.mkv": {"pixel_format": "yuv444p"},
    "grey.mp4": {"pixel_format": "gray"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "interlaced.mp4": {"options": {"x264-params": "tff=1", "flags": "+ildct+ilme"}},
    "wide.mp4": {"sample_aspect_ratio": Fraction(2)},
}


@pytest.mark.parametrize("name", CLIPS)
def test_pictures_and_times_are_those_of_pyav(tmp_path: Path, name: str) -> None:
    settings = dict(CLIPS[name])
    settings.setdefault("num_frames", 40)
    make_clip(tmp_path / name, **settings)  # type: ignore[arg-type]
    ours = load_frames(tmp_path / name, num_frames=7)
    theirs = load_frames(tmp_path / name, num_frames=7, decoder="torchcodec")
    assert read_boards(theirs.pixels) == theirs.indices.tolist()
    np.testing.assert_array_equal(theirs.pixels, ours.pixels)
    np.testing.assert_array_equal(theirs.seconds, ours.seconds)


def test_scaled_pictures_are_close(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.mp4", num_frames=20)
    ours = load_frames(tmp_path / "c.mp4", num_frames=4, size=32).pixels.astype(int)
    theirs = load_frames(tmp_path / "c.mp4", num_frames=4, size=32, decoder="torchcodec").pixels
    assert np.abs(ours - theirs).mean() < 4


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_turned_pictures_come_upright_from_both(matrix: tuple[int, int, int, int]) -> None:
    data = with_display_matrix(clip_bytes(num_frames=10), matrix)
    ours, theirs = (
        load_frames(data, num_frames=3, decoder=decoder).pixels  # type: ignore[arg-type]
        for decoder in ("pyav", "torchcodec")
    )
    np.testing.assert_array_equal(theirs, ours)


def test_members_of_a_tar_are_read(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.mp4", num_frames=20)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(tmp_path / "c.mp4", "c.mp4")
    frames = load_frames(f"{tmp_path}/shard.tar::c.mp4", num_frames=4, decoder="torchcodec")
    assert read_boards(frames.pixels) == frames.indices.tolist()


def test_frames_that_torchcodec_counts_otherwise_are_read_by_pyav(tmp_path: Path) -> None:
    """Pictures that H.264 shows nowhere: an edit list begins in the middle of a group."""
    make_clip(tmp_path / "c.mp4", num_frames=60, options={"g": "30", "bf": "2"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(with_edit((tmp_path / "c.mp4").read_bytes(), 0.9, 2.4))
    ours = load_frames(path, num_frames=5)
    theirs = load_frames(path, num_frames=5, decoder="torchcodec")
    assert read_boards(ours.pixels) == (ours.indices + 23).tolist()
    np.testing.assert_array_equal(theirs.pixels, ours.pixels)
