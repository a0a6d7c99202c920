"""``probe`` says what is in a file, measured from its packets and first picture."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest

from kinema.cli.app import run
from kinema.video import probe
from support.clips import board, make_clip


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


@pytest.mark.parametrize("container", ["mov", "mp4", "mxf", "avi"])
def test_probe_tells_the_start_timecode(
    container: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{container}"
    with av.open(str(path), "w") as output:
        output.metadata["timecode"] = "00:59:58;00"
        stream = output.add_stream("mpeg2video", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.metadata["timecode"] = "00:59:58;00"
        for _ in range(6):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(board(0), format="rgb24")))
        output.mux(stream.encode(None))
    assert probe(path).start_timecode == "00:59:58;00"
    assert run(["probe", str(path)]) == 0
    assert "timecode    00:59:58;00" in capsys.readouterr().out
    plain = make_clip(tmp_path / "plain.mov", num_frames=3)
    assert probe(plain).start_timecode is None
