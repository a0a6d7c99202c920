"""H.264 whose frames are coded field by field (PAFF), as broadcasts and camcorders do.

No encoder at hand writes it, so it is written here bit by bit (H.264, sections 7.3 and 9.1): every
macroblock is I_PCM, which stores its samples as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from support.clips import board

HEIGHT, WIDTH = 64, 96
GROUP = 8
"""Frames from one IDR picture to the next."""
_TICKS = 90_000
_FIELD_TICKS = _TICKS // 50


class _Writer:
    def __init__(self) -> None:
        self._bits: list[int] = []

    def u(self, count: int, value: int) -> _Writer:
        self._bits += [value >> place & 1 for place in reversed(range(count))]
        return self

    def ue(self, *values: int) -> _Writer:
        for value in values:
            length = (value + 1).bit_length()
            self.u(length - 1, 0).u(length, value + 1)
        return self

    def align(self) -> _Writer:
        self._bits += [0] * (-len(self._bits) % 8)
        return self

    def samples(self, plane: NDArray[np.uint8]) -> None:
        self._bits += np.unpackbits(np.ascontiguousarray(plane)).tolist()

    def payload(self) -> bytes:
        self.u(1, 1).align()
        return np.packbits(np.array(self._bits, dtype=np.uint8)).tobytes()


def _unit(header: int, payload: bytes) -> bytes:
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([header]) + bytes(escaped)


_DELIMITER = b"\0\0\0\1\x09\xf0"


def _parameters() -> bytes:
    sequence = _Writer().u(8, 77).u(8, 0).u(8, 40).ue(0, 0, 0, 4, 1).u(1, 0)
    sequence.ue(WIDTH // 16 - 1, HEIGHT // 32 - 1)
    sequence.u(1, 0).u(1, 0).u(1, 1).u(1, 0)  # fields, never mixed in a frame; no cropping
    sequence.u(1, 1).u(4, 0).u(1, 1).u(32, 1).u(32, 50).u(1, 1).u(4, 0)  # 25 frames a second
    picture = _Writer().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0b100)
    return _unit(0x67, sequence.payload()) + _unit(0x68, picture.payload())


def _field(luma: NDArray[np.uint8], number: int, *, is_bottom: bool) -> bytes:
    place, is_idr = number % GROUP, number % GROUP == 0 and not is_bottom
    bits = _Writer().ue(0, 7, 0).u(4, place).u(1, 1).u(1, is_bottom)
    if is_idr:
        bits.ue(number // GROUP % 2)
    bits.u(8, 2 * place + is_bottom)
    bits.u(2 if is_idr else 1, 0)
    bits.ue(0, 1)
    grey = np.full((8, 8), 128, dtype=np.uint8)
    for top in range(0, luma.shape[0], 16):
        for left in range(0, WIDTH, 16):
            bits.ue(25).align()
            bits.samples(luma[top : top + 16, left : left + 16])
            bits.samples(grey)
            bits.samples(grey)
    return _unit(0x65 if is_idr else 0x61, bits.payload())


def field_coded(num_frames: int) -> Iterator[tuple[bytes, bytes]]:
    """The two fields of each board, as annex B access units."""
    for number in range(num_frames):
        luma = board(number, height=HEIGHT, width=WIDTH)[..., 0]
        head = _parameters() if number % GROUP == 0 else b""
        yield (
            _DELIMITER + head + _field(luma[0::2], number, is_bottom=False),
            _DELIMITER + _field(luma[1::2], number, is_bottom=True),
        )


def write_field_coded(path: Path, *, num_frames: int, joined: bool = False) -> Path:
    """Boards at 25 frames a second; a packet for each field, or for each frame (``joined``)."""
    raw = path.with_suffix(".264")
    fields = list(field_coded(num_frames))
    raw.write_bytes(b"".join(first + second for first, second in fields))
    packets = [first + second for first, second in fields] if joined else sum(fields, ())
    ticks = 2 * _FIELD_TICKS if joined else _FIELD_TICKS
    with av.open(str(raw)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.time_base = Fraction(1, _TICKS)
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, _TICKS)
            packet.pts = packet.dts = number * ticks
            packet.duration = ticks
            packet.is_keyframe = number % (GROUP if joined else 2 * GROUP) == 0
            output.mux(packet)
    raw.unlink()
    return path
