"""Every demuxer of the installed FFmpeg is allowed or refused, each with its reason."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinema.errors import NotMedia, NoVideoStream
from kinema.video import load_frames, probe
from kinema.video.demuxers import ALLOWED, REFUSED, why_refused
from support.clips import board, clip_bytes, make_clip, read_boards
from support.dhav import make_dav


def installed() -> list[str]:
    found = []
    for name in av.formats_available:
        try:
            av.ContainerFormat(name, "r")
        except ValueError:
            continue  # it can only be written
        found.append(name)
    return sorted(found)


def test_every_demuxer_is_on_one_side_of_the_list() -> None:
    assert not set(ALLOWED) & set(REFUSED)
    sides = {
        name: [part in ALLOWED or part in REFUSED for part in name.split(",")]
        for name in installed()
    }
    assert len(sides) > 300
    assert [name for name, known in sides.items() if not all(known)] == []
    assert all(ALLOWED.values())
    assert all(why_refused(name) for name in REFUSED)
    assert why_refused("mov,mp4,m4a,3gp,3g2,mj2") is None
    assert why_refused("never_heard_of") == "is not on the list of containers that are opened"


def test_what_leads_out_of_a_file_is_refused() -> None:
    for name in ("concat", "hls", "dash", "image2", "sdp", "rtsp", "lavfi", "vobsub"):
        assert name in REFUSED


PAL = {"fps": 25, "height": 576, "width": 720}
KINDS: dict[str, dict[str, Any]] = {
    "264": {"codec": "libx264", "container": "h264"},
    "h265": {
        "codec": "libx265",
        "container": "hevc",
        "options": {"x265-params": "log-level=none"},
    },
    "ivf": {"codec": "libvpx"},
    "obu": {"codec": "libsvtav1", "options": {"preset": "8", "crf": "5"}},
    "m2v": {"codec": "mpeg2video", "container": "mpeg2video", "options": {"bf": "0"}},
    "m4v": {"codec": "mpeg4", "container": "m4v"},
    "mjpeg": {"codec": "mjpeg", "container": "mjpeg", "pixel_format": "yuvj420p"},
    "dv": {"codec": "dvvideo", **PAL},
    "gxf": {"codec": "mpeg2video", "options": {"bf": "0"}, **PAL},
    "y4m": {"codec": "rawvideo", "container": "yuv4mpegpipe"},
    "h263": {"codec": "h263", "container": "h263", "height": 288, "width": 352},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_allowed_is_read_to_the_frame(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    make_clip(path, **{"num_frames": 30, **KINDS[kind]})
    frames = load_frames(path, num_frames=7)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert (frames.total_frames, len(frames)) == (30, 7)
    assert probe(path).num_frames == 30


def test_a_surveillance_recorders_file_is_read_to_the_frame(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "10"}
    clip = make_clip(tmp_path / "a.mp4", num_frames=60, options=options)
    path = make_dav(tmp_path / "a.dav", clip)
    frames = load_frames(path, num_frames=8)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert np.allclose(frames.seconds, frames.indices / 25)
    assert (probe(path).container, frames.total_frames) == ("dhav", 60)


@pytest.mark.parametrize("is_file", [False, True])
def test_the_message_for_a_refused_container_names_it(is_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.swf"
    make_clip(path, codec="flv1", num_frames=5)
    level = av.logging.get_level()
    with pytest.raises(NotMedia, match=r"'swf' is rarely met") as caught:
        load_frames(path if is_file else path.read_bytes())
    assert caught.value.hint
    assert av.logging.get_level() == level


@pytest.mark.parametrize("suffix", ["wv", "au", "aiff", "caf"])
def test_sound_in_any_container_is_named_as_such(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    codec = "wavpack" if suffix == "wv" else "pcm_s16be"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=16_000, layout="mono")
        layout = {"wv": "s16p"}.get(suffix, "s16")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), layout, "mono")
        frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(NoVideoStream, match=f"only audio .{suffix}."):
        load_frames(path)


def test_one_jpeg_is_a_picture_and_many_are_a_video(tmp_path: Path) -> None:
    data = clip_bytes("mjpeg", codec="mjpeg", container="mjpeg", pixel_format="yuvj420p")
    (tmp_path / "a.mjpg").write_bytes(data)
    (tmp_path / "a.jpg").write_bytes(data)
    assert load_frames(tmp_path / "a.mjpg", fps=1000).total_frames == 50
    assert load_frames(tmp_path / "a.jpg", fps=1000).total_frames == 1
    assert read_boards(load_frames([board(3)]).pixels) == [3]
