"""Frames to a file: one as a picture, several as a video."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import UsageError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEOS = (".mp4", ".mov", ".mkv")


def check_target(path: Path, *, num_frames: int) -> None:
    """Refuse a file name that cannot hold so many frames.

    Raises:
        UsageError: says which endings fit.
    """
    fitting = PICTURES if num_frames == 1 else VIDEOS
    if path.suffix.lower() not in fitting:
        what = "One frame is" if num_frames == 1 else f"{num_frames} frames are"
        raise UsageError(
            f"{what} not written as {path.suffix or 'a file without ending'!r}.",
            hint=f"End the name with {', '.join(fitting)}.",
        )
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", hint="Make it first.")


def save_frames(path: Path, pixels: NDArray[np.uint8], *, fps: int) -> None:
    """Write ``uint8[T, H, W, 3]``; the file appears when it is complete.

    Raises:
        UsageError: the name does not fit the number of frames.
    """
    check_target(path, num_frames=len(pixels))
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        if len(pixels) == 1:
            Image.fromarray(pixels[0]).save(unfinished)
        else:
            _save_video(unfinished, pixels, fps)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _save_video(path: Path, pixels: NDArray[np.uint8], fps: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pixels:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
