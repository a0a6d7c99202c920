"""From a decoded frame to an upright RGB picture with square pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from kinema.video.decoder import Size
from kinema.video.tonemap import Transfer, to_sdr

HDR_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""ITU-T H.273 transfer characteristics that are tone-mapped."""
_BT2020_PRIMARIES = 9


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


def fit(shown: tuple[int, int], size: Size | None) -> tuple[int, int]:
    """Height and width at the asked size."""
    if size is None:
        return shown
    if isinstance(size, tuple):
        return size
    shorter = min(shown)
    if shorter <= size:
        return shown
    height, width = (max(1, round(side * size / shorter)) for side in shown)
    return height, width


class Converter:
    """Scales and makes RGB in one step; one for each thread, as it keeps its tables."""

    def __init__(self, pixel_aspect: float, size: Size | None) -> None:
        self._pixel_aspect = pixel_aspect
        self._size = size
        self._reformatter = VideoReformatter()

    def shape(self, frame: Any) -> tuple[int, int]:
        """Height and width of the upright result."""
        shown = (frame.height, max(1, round(frame.width * self._pixel_aspect)))
        return fit(shown[::-1] if orientation_of(frame).transpose else shown, self._size)

    def into(self, target: NDArray[np.uint8], frame: Any) -> None:
        """Write an ``av.VideoFrame`` upright into uint8[H, W, 3]."""
        orientation = orientation_of(frame)
        height, width = target.shape[1::-1] if orientation.transpose else target.shape[:2]
        if frame.interlaced_frame:
            frame = self._deinterlaced(frame)
        transfer = HDR_TRANSFERS.get(int(frame.color_trc))
        if transfer is None:
            pixels = self._scaled(frame, height, width, "rgb24")
        else:
            wide = int(frame.color_primaries) == _BT2020_PRIMARIES
            code_values = self._scaled(frame, height, width, "rgb48le").view("<u2")
            pixels = to_sdr(code_values, transfer, wide=wide)
        target[:] = orientation.apply(pixels)

    def _scaled(self, frame: Any, height: int, width: int, layout: str) -> NDArray[np.uint8]:
        """uint8[H, W, bytes of a pixel] on the memory of the converted frame."""
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format=layout, interpolation="BICUBIC", threads=1
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)
        pixel_bytes = 6 if layout == "rgb48le" else 3
        pixels = rows[:height, : width * pixel_bytes]
        return pixels.reshape(height, width, pixel_bytes)

    def _deinterlaced(self, frame: Any) -> Any:
        """The frame with its second field drawn from its first, which needs no neighbours."""
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format.name,
            time_base=Fraction(1, 1000),
        )
        graph.link_nodes(source, graph.add("estdif", "mode=frame"), graph.add("buffersink"))
        graph.configure()
        graph.push(frame)
        graph.push(None)
        return graph.pull()


class SizeChanged(Exception):
    """A frame has another size than the frame that came first."""


class Canvas:
    """The pictures of one reading, filled by several threads in any order.

    Args:
        wanted: int64[K], frame indices.
        shape: height and width of all pictures; unless told, that of the frame that comes first,
            and then ``put`` raises ``SizeChanged`` at a frame of another size.
    """

    def __init__(self, wanted: NDArray[np.int64], shape: tuple[int, int] | None = None) -> None:
        self._place = {frame_index: place for place, frame_index in enumerate(wanted.tolist())}
        self._lock = threading.Lock()
        self._brings_to_shape = shape is not None
        self._count = len(wanted)
        self.pixels: NDArray[np.uint8] | None = None
        """uint8[K, H, W, 3] once the first frame has come."""
        if shape is not None:
            self.pixels = np.empty((self._count, *shape, 3), np.uint8)
        self.found = np.zeros(self._count, dtype=np.bool_)
        self.damaged = np.zeros(self._count, dtype=np.bool_)
        """Frames that the decoder marked as corrupt, or that lean on damage."""

    def put(self, frame_index: int, converter: Converter, frame: Any) -> None:
        """Convert a frame into its place."""
        shape = converter.shape(frame)
        with self._lock:
            if self.pixels is None:
                self.pixels = np.empty((self._count, *shape, 3), np.uint8)
        if not self._brings_to_shape and self.pixels.shape[1:3] != shape:
            raise SizeChanged
        place = self._place[frame_index]
        converter.into(self.pixels[place], frame)
        self.found[place] = True
        self.damaged[place] = frame.is_corrupt

    def forget(self, frame_indices: Iterable[int]) -> None:
        """Take frames off again, as they are read anew."""
        for frame_index in frame_indices:
            self.found[self._place[frame_index]] = False
            self.damaged[self._place[frame_index]] = False

    def mark_damaged(self, frame_indices: Iterable[int]) -> None:
        """Note that these frames lean on something that was damaged."""
        for frame_index in frame_indices:
            self.damaged[self._place[frame_index]] = True
