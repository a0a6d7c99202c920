"""From a decoded frame to an upright RGB picture with square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.video.decoder import Size


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways a picture can lie; the fields are applied in their order."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: NDArray[np.int32] | None) -> Orientation:
        """Read ISO/IEC 14496-12's 3x3 matrix: a pixel at (x, y) is shown at (ax + cy, bx + dy)."""
        if matrix is None:
            return cls()
        a, b, _, c, d = (int(v) for v in matrix[:5])
        if abs(b) > abs(a):
            return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
        return cls(mirror_x=a < 0, mirror_y=d < 0)

    @property
    def rotation_degrees(self) -> int:
        """Clockwise turn that makes the stored picture upright, mirroring left aside."""
        if self.transpose:
            return 270 if self.mirror_y else 90
        return 180 if self.mirror_y else 0

    @property
    def is_mirrored(self) -> bool:
        """True when left and right are exchanged besides the turn."""
        return (self.transpose + self.mirror_x + self.mirror_y) % 2 == 1

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn uint8[H, W, 3] upright."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of(frame: Any) -> Orientation:
    """The display matrix that the decoder hung onto an ``av.VideoFrame``."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    return Orientation.from_display_matrix(
        None if side_data is None else np.frombuffer(bytes(side_data), dtype="<i4")
    )


def target_size(
    height: int, width: int, *, pixel_aspect: float, turned: bool, size: Size | None
) -> tuple[int, int]:
    """Height and width, as stored, of the picture that is upright at the asked size."""
    shown = (height, max(1, round(width * pixel_aspect)))
    if turned:
        shown = (shown[1], shown[0])
    wanted = _fit(shown, size)
    return (wanted[1], wanted[0]) if turned else wanted


def _fit(shown: tuple[int, int], size: Size | None) -> tuple[int, int]:
    if size is None:
        return shown
    if isinstance(size, tuple):
        return size
    shorter = min(shown)
    if shorter <= size:
        return shown
    height, width = (max(1, round(side * size / shorter)) for side in shown)
    return height, width


def to_rgb(frame: Any, *, pixel_aspect: float, size: Size | None) -> NDArray[np.uint8]:
    """uint8[H, W, 3] of an ``av.VideoFrame``, scaled by the converter that also makes it RGB."""
    orientation = orientation_of(frame)
    height, width = target_size(
        frame.height,
        frame.width,
        pixel_aspect=pixel_aspect,
        turned=orientation.transpose,
        size=size,
    )
    rgb = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(orientation.apply(rgb.to_ndarray()))
