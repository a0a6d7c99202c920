"""Photos as phones write them: HEIF files of one picture or of tiles (ISO/IEC 23008-12)."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
from numpy.typing import NDArray


def make_heic(
    picture: NDArray[np.uint8],
    *,
    tile: int | None = None,
    thumbnail: NDArray[np.uint8] | None = None,
) -> bytes:
    """A HEIC file of uint8[H, W, 3].

    Args:
        picture: its sides are even.
        tile: side of the tiles that it is cut into, the last ones filled up; None writes one item.
        thumbnail: a small picture beside it.
    """
    height, width = picture.shape[:2]
    side = tile or 0
    rows, columns = (-(-height // side), -(-width // side)) if side else (1, 1)
    padding = ((0, rows * side - height), (0, columns * side - width), (0, 0)) if side else None
    padded = np.pad(picture, padding, mode="edge") if padding else picture
    parts = [part for row in np.split(padded, rows) for part in np.split(row, columns, axis=1)]
    coded = [_coded(part) for part in parts + ([] if thumbnail is None else [thumbnail])]
    sizes = [part.shape[1::-1] for part in parts] + (
        [] if thumbnail is None else [thumbnail.shape[1::-1]]
    )
    count = len(coded)
    main = count + 1 if side else 1
    kinds = [b"hvc1"] * count + ([b"grid"] if side else [])
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height) if side else b""
    if side:
        sizes.append((width, height))
    hidden = {i for i in range(1, count + 1) if side and i <= len(parts)}
    names = b"".join(
        _full(b"infe", 2, int(i in hidden), struct.pack(">HH", i, 0) + kind + b"\0")
        for i, kind in enumerate(kinds, start=1)
    )
    references = b""
    if side:
        tiles = range(1, len(parts) + 1)
        references += _reference(b"dimg", main, list(tiles))
    if thumbnail is not None:
        references += _reference(b"thmb", count, [main])
    properties = b"".join(_box(b"hvcC", extra) for extra, _ in coded)
    properties += b"".join(_full(b"ispe", 0, 0, struct.pack(">II", *size)) for size in sizes)
    links = b"".join(
        struct.pack(">HB", i, 2) + bytes([0x80 | i, count + i])
        if kind == b"hvc1"
        else struct.pack(">HB", i, 1) + bytes([count + i])
        for i, kind in enumerate(kinds, start=1)
    )
    head = _box(b"ftyp", b"heic" + struct.pack(">I", 0) + b"mif1heic")
    fixed = (
        _full(b"hdlr", 0, 0, bytes(4) + b"pict" + bytes(13))
        + _full(b"pitm", 0, 0, struct.pack(">H", main))
        + _full(b"iinf", 0, 0, struct.pack(">H", len(kinds)) + names)
        + (_full(b"iref", 0, 0, references) if references else b"")
        + _box(
            b"iprp",
            _box(b"ipco", properties) + _full(b"ipma", 0, 0, struct.pack(">I", len(kinds)) + links),
        )
        + (_box(b"idat", grid) if side else b"")
    )

    def meta(first_byte: int) -> bytes:
        rows_of_iloc, at = b"", first_byte
        for i, (_, data) in enumerate(coded, start=1):
            rows_of_iloc += struct.pack(">HHHHII", i, 0, 0, 1, at, len(data))
            at += len(data)
        if side:  # the grid lies in idat: construction method 1
            rows_of_iloc += struct.pack(">HHHHII", main, 1, 0, 1, 0, len(grid))
        iloc = _full(b"iloc", 1, 0, struct.pack(">BBH", 0x44, 0, len(kinds)) + rows_of_iloc)
        return _full(b"meta", 0, 0, fixed + iloc)

    body = b"".join(data for _, data in coded)
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", body)


def _coded(picture: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """hvcC and the one packet of a picture, coded as HEVC."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        # With B-frames the decoding time of a lone picture is memory that nobody has set.
        options = {"x265-params": "log-level=none:info=0:crf=8:bframes=0"}
        stream = output.add_stream("libx265", rate=25, options=options)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt, stream.codec_context.codec_tag = "yuv420p", "hvc1"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame.pts = 0
        output.mux([*stream.encode(frame), *stream.encode(None)])
    buffer.seek(0)
    with av.open(buffer) as file:
        stream = file.streams.video[0]
        packet = next(packet for packet in file.demux(stream) if packet.size)
        return bytes(stream.codec_context.extradata), bytes(packet)


def _reference(kind: bytes, source: int, targets: list[int]) -> bytes:
    count = len(targets)
    return _box(kind, struct.pack(f">HH{count}H", source, count, *targets))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, version: int, flags: int, body: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)
