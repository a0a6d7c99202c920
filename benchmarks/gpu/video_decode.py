"""Frames decoded by a GPU beside those of the CPU: how far apart they are, and how long each takes.

Usage: python benchmarks/gpu/video_decode.py [--frames 16] [--runs 5] [--seconds 20]

Needs an NVIDIA GPU and the extra torchcodec. Clips are drawn and coded here: H.264, HEVC, VP9 and
AV1, at sizes that are and are not whole blocks, in 8 and 10 bit. Writes results/video_cuda.json: of
each clip whether the GPU was used, or why not; the mean and largest difference in levels of 255,
also along the border; and seconds as medians.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import machine, median, timed, write_result
from kinema.video import load_frames

CODECS = {
    "h264": ("libx264", "yuv420p"),
    "hevc": ("libx265", "yuv420p"),
    "hevc 10 bit": ("libx265", "yuv420p10le"),
    "vp9": ("libvpx-vp9", "yuv420p"),
    "av1": ("libsvtav1", "yuv420p"),
}
SIZES = ((1920, 1080), (1280, 720), (854, 480), (426, 240), (130, 98))
_FPS = 25
_BORDER_PIXELS = 16


def make(path: Path, codec: str, size: tuple[int, int], *, seconds: int) -> None:
    """Blocks of noise that move: a crop or shift by a few pixels is far from the right picture."""
    name, pixel_format = CODECS[codec]
    width, height = size
    chance = np.random.default_rng(0)
    texture = chance.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    texture = np.kron(texture, np.ones((8, 8, 1), np.uint8))[:height, :width]
    quiet = {"x265-params": "log-level=none"} if name == "libx265" else {}
    with av.open(str(path), "w") as output:
        stream = output.add_stream(name, rate=_FPS, options={"g": "50", **quiet})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for i in range(seconds * _FPS):
            picture = np.ascontiguousarray(np.roll(texture, 2 * i, axis=1))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def compare(path: Path, *, frames: int, runs: int) -> dict[str, Any]:
    """Both decoders on the same frames, in turns."""
    ours = load_frames(path, num_frames=frames)
    theirs = load_frames(path, num_frames=frames, decoder="cuda")
    difference = np.abs(ours.pixels.astype(np.int16) - theirs.pixels)
    near, far = slice(None, _BORDER_PIXELS), slice(-_BORDER_PIXELS, None)
    strips = (
        difference[:, near],
        difference[:, far],
        difference[:, :, near],
        difference[:, :, far],
    )
    seconds = timed(
        {
            name: lambda name=name: load_frames(path, num_frames=frames, decoder=name)
            for name in ("pyav", "cuda")
        },
        runs=runs,
    )
    return {
        "used": not theirs.warnings,
        "warnings": list(theirs.warnings),
        "mean_levels": round(float(difference.mean()), 3),
        "largest_levels": int(difference.max()),
        "border_levels": round(max(float(strip.mean()) for strip in strips), 3),
        **{f"{name}_seconds": round(median(taken), 4) for name, taken in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20)
    asked = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    clips = {}
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            for size in SIZES:
                name = f"{codec} {size[0]}×{size[1]}"
                path = Path(folder) / "clip.mp4"
                make(path, codec, size, seconds=asked.seconds)
                clips[name] = compare(path, frames=asked.frames, runs=asked.runs)
                print(name, clips[name], file=sys.stderr)
    about = {"device": device, "frames": asked.frames, "clip_seconds": asked.seconds}
    write_result("video_cuda", {"machine": machine() | about, "clips": clips})


if __name__ == "__main__":
    main()
