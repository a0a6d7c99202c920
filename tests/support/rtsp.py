"""A camera: an RTSP server (RFC 2326) that sends H.264 over its own connection (RFC 6184)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av

from support.clips import board

_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track1
""".replace("\n", "\r\n")
_ANSWERS = {
    "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", ""),
    "DESCRIBE": ("Content-Type: application/sdp", _SDP),
    "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1", ""),
    "PLAY": ("Session: 1", ""),
}
_TICKS_PER_SECOND = 90_000


def coded(num_frames: int, fps: int) -> Iterator[list[bytes]]:
    """The network units of each frame; frame i shows board i."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
    encoder.options = {"tune": "zerolatency", "x264-params": "keyint=10:repeat-headers=1"}
    for i in range(num_frames):
        frame = av.VideoFrame.from_ndarray(board(i), format="rgb24")
        frame.pts = i
        for packet in encoder.encode(frame):
            units = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
            yield [unit for unit in units if unit]


@contextmanager
def camera(*, num_frames: int, fps: int) -> Iterator[str]:
    """Address of a camera that shows so many boards to its first viewer and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serving = threading.Thread(target=_serve, args=(listening, num_frames, fps))
        serving.start()
        try:
            yield f"rtsp://viewer:secret@127.0.0.1:{port}/live?token=secret"
        finally:
            serving.join(timeout=20)
    assert not serving.is_alive()


def _serve(listening: socket.socket, num_frames: int, fps: int) -> None:
    listening.settimeout(15)
    connection, _ = listening.accept()
    with connection, connection.makefile("r", newline="\r\n") as lines, suppress(OSError):
        connection.settimeout(15)
        while request := lines.readline().split():
            headers = dict(line.strip().split(": ", 1) for line in iter(lines.readline, "\r\n"))
            fields, body = _ANSWERS[request[0]]
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\n{fields}\r\n"
            answer += f"Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(answer.encode())
            if request[0] == "PLAY":
                _send(connection, num_frames, fps)
                return


def _send(connection: socket.socket, num_frames: int, fps: int) -> None:
    number = 0
    for i, units in enumerate(coded(num_frames, fps)):
        for unit in units:
            is_last = unit is units[-1]
            header = struct.pack(
                "!BBHII", 0x80, 96 | is_last << 7, number, i * _TICKS_PER_SECOND // fps, 1
            )
            packet = header + unit
            connection.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
            number += 1
