"""Files of surveillance recorders (Dahua's DHAV, ``.dav``): packets behind headers of their own."""

from __future__ import annotations

import struct
from pathlib import Path

import av

_KEY, _OTHER = 0xFD, 0xFC
_H264 = 2


def make_dav(path: Path, source: Path) -> Path:
    """The H.264 packets of a clip at 25 frames a second, without B-frames, as a recorder writes."""
    data = bytearray()
    with av.open(str(source)) as file:
        stream = file.streams.video[0]
        to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [p for q in file.demux(stream) for p in to_annex_b.filter(q if q.size else None)]
        for number, packet in enumerate(packets):
            body = bytes(packet)
            extension = bytes([0x81, 0, _H264, 25])
            extension += struct.pack("<BBBBHH", 0x82, 0, 0, 0, stream.width, stream.height)
            length = 24 + len(extension) + len(body) + 8
            head = struct.pack(
                "<4sBBBBIIIHBB",
                b"DHAV",
                _KEY if packet.is_keyframe else _OTHER,
                0,
                0,
                0,
                number,
                length,
                _date(number // 25),
                number * 40 % 65_536,
                len(extension),
                0,
            )
            data += head + extension + body + struct.pack("<4sI", b"dhav", length)
    path.write_bytes(data)
    return path


def _date(seconds: int) -> int:
    """2024-01-01 00:00 and so many seconds, packed from the year down."""
    minutes, second = divmod(seconds, 60)
    return 24 << 26 | 1 << 22 | 1 << 17 | 0 << 12 | minutes << 6 | second
