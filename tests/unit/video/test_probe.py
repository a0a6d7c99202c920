"""``probe`` says what is in a file, measured from its packets and first picture."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from kinema.video import probe
from support.clips import make_clip


def test_probe_measures_a_plain_clip(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", num_frames=100, options={"g": "25", "sc_threshold": "0"})
    info = probe(tmp_path / "a.mp4")
    assert (info.codec, info.width, info.height, info.bit_depth) == ("h264", 96, 64, 8)
    assert (info.num_frames, info.num_keyframes, info.fps_mode) == (100, 4, "constant")
    assert info.keyframe_seconds == (0.0, 1.0, 2.0, 3.0)
    assert info.duration_seconds == pytest.approx(4.0)
    assert info.fps == pytest.approx(25.0)
    assert info.rotation_degrees == 0
    assert not info.has_audio
    assert info.hdr == "none"
    assert json.loads(json.dumps(info.to_dict()))["num_frames"] == 100


def test_probe_sees_variable_rate(tmp_path: Path) -> None:
    make_clip(tmp_path / "v.mp4", seconds=[0, 0.1, 0.2, 1.0, 3.0, 3.1])
    assert probe(tmp_path / "v.mp4").fps_mode == "variable"


def test_probe_sees_wide_pixels(tmp_path: Path) -> None:
    make_clip(tmp_path / "s.mp4", num_frames=3, sample_aspect_ratio=Fraction(2))
    info = probe(tmp_path / "s.mp4")
    assert (info.coded_width, info.width, info.height) == (96, 192, 64)
    assert info.sample_aspect_ratio == "2:1"


def test_probe_sees_hdr_and_depth(tmp_path: Path) -> None:
    make_clip(
        tmp_path / "h.mp4",
        num_frames=3,
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none:transfer=smpte2084:colorprim=bt2020"},
    )
    info = probe(tmp_path / "h.mp4")
    assert (info.hdr, info.bit_depth, info.color_primaries) == ("pq", 10, "bt2020")
