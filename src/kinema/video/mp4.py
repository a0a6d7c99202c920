"""The sample tables of an MP4 or MOV, read without touching the pictures.

ISO/IEC 14496-12. A two-hour film is indexed in milliseconds, not by walking through its bytes.
Anything but a plain file (fragments, several edits, unusual tables) is left to the packets.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from kinema.video.media import Media
from kinema.video.packets import Packets
from kinema.video.shown import read_h264_sequence

_LARGEST_MOOV_BYTES = 256 << 20


class _NotPlain(Exception):
    """The file is left to the demuxer."""


def read_sample_tables(media: Media, *, track_id: int | None = None) -> Packets | None:
    """Packets of a video track in decoding order, None where the tables are not plain.

    Args:
        media: an MP4 or MOV; of all other files nothing is known.
        track_id: of the track's header; needed where a file has several video tracks.
    """
    if media.track is not None and track_id is None:
        return None
    if media.head[4:8] != b"ftyp":
        return None
    try:
        with media.open() as file:
            moov = _read_moov(file, media.size_bytes)
        return _packets_of_movie(memoryview(moov), track_id, media)
    except (_NotPlain, ValueError, IndexError, OverflowError):
        return None


def top_level_boxes(file: BinaryIO, size_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and number of bytes of each box, up to one that makes no sense."""
    position = 0
    while position + 8 <= size_bytes:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            return
        yield kind, position, size
        position += size


def _read_moov(file: BinaryIO, size_bytes: int) -> bytes:
    for kind, position, size in top_level_boxes(file, size_bytes):
        if kind == b"moof" or (kind == b"moov" and size > _LARGEST_MOOV_BYTES):
            break
        if kind == b"moov":
            file.seek(position + 8)
            return file.read(size - 8)
    raise _NotPlain


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8 or position + size > len(data):
            raise _NotPlain
        yield bytes(data[position + 4 : position + 8]), data[position + 8 : position + size]
        position += size


def _only(data: memoryview, *path: bytes) -> memoryview:
    for kind in path:
        found = _maybe(data, kind)
        if found is None:
            raise _NotPlain
        data = found
    return data


def _maybe(data: memoryview, kind: bytes) -> memoryview | None:
    found = [body for name, body in _boxes(data) if name == kind]
    if len(found) > 1:
        raise _NotPlain
    return found[0] if found else None


def _packets_of_movie(moov: memoryview, track_id: int | None, media: Media) -> Packets:
    if _maybe(moov, b"mvex") is not None:
        raise _NotPlain
    movie_timescale = _timescale(_only(moov, b"mvhd"))
    videos = [
        trak
        for name, trak in _boxes(moov)
        if name == b"trak"
        and bytes(_only(trak, b"mdia", b"hdlr")[8:12]) == b"vide"
        and track_id in (None, _track_id(_only(trak, b"tkhd")))
    ]
    if len(videos) != 1:
        raise _NotPlain
    return _packets_of_track(videos[0], movie_timescale, media)


def _track_id(header: memoryview) -> int:
    at = 20 if header[0] == 1 else 12
    return int.from_bytes(header[at : at + 4], "big")


def _timescale(header: memoryview) -> int:
    at = 20 if header[0] == 1 else 12
    scale = int.from_bytes(header[at : at + 4], "big")
    if scale <= 0:
        raise _NotPlain
    return scale


def _packets_of_track(trak: memoryview, movie_timescale: int, media: Media) -> Packets:
    media_timescale = _timescale(_only(trak, b"mdia", b"mdhd"))
    table = _only(trak, b"mdia", b"minf", b"stbl")
    codec, config, reordering = _codec(_only(table, b"stsd"))
    count = _num_samples(_only(table, b"stsz"), media)
    duration = _runs(_only(table, b"stts"), count)
    dts = np.cumsum(duration) - duration
    ctts = _maybe(table, b"ctts")
    pts = dts.copy() if ctts is None else dts + _runs(ctts, count, ">i4")
    edits = _maybe(trak, b"edts")
    begin, delay = 0, 0
    if edits is not None:
        begin, end, delay = _edit(_only(edits, b"elst"), Fraction(media_timescale, movie_timescale))
        if pts.max() >= end:
            raise _NotPlain
    discard = pts < begin
    if discard.all():
        raise _NotPlain
    # The first picture that is shown is shown at once, also where the edit begins between two.
    shift = delay - int(pts[~discard].min())
    keyframe = _keyframes(_maybe(table, b"stss"), count)
    entry = _entry_of_edit(pts, keyframe, begin)
    return Packets(
        pts=pts[entry:] + shift,
        dts=dts[entry:] + shift,
        duration=duration[entry:],
        keyframe=keyframe[entry:],
        discard=discard[entry:],
        seconds_per_tick=1 / media_timescale,
        container="mov",
        codec=codec,
        config=config,
        reordering=reordering,
    )


def _entry_of_edit(pts: NDArray[np.int64], keyframe: NDArray[np.bool_], begin: int) -> int:
    """The sample that an edit is decoded from; FFmpeg's demuxer gives none before it."""
    if begin <= pts[0]:
        return 0
    entries = np.flatnonzero(keyframe & (pts <= begin))
    if not len(entries):
        raise _NotPlain
    return int(entries[-1])


_CODECS = {
    **dict.fromkeys((b"avc1", b"avc3"), "h264"),
    **dict.fromkeys((b"hvc1", b"hev1"), "hevc"),
    **{b"av01": "av1", b"vp08": "vp8", b"vp09": "vp9", b"jpeg": "mjpeg"},
    **dict.fromkeys((b"apch", b"apcn", b"apcs", b"apco", b"ap4h", b"ap4x"), "prores"),
}
"""Sample entries (mp4ra.org) whose samples are single frames; MPEG-4's may not be."""
_VISUAL_ENTRY_BYTES = 78
"""Of a VisualSampleEntry, before the boxes in it (ISO/IEC 14496-12, 12.1.3)."""


def _codec(stsd: memoryview) -> tuple[str, bytes, int | None]:
    """FFmpeg's name of the codec, and for H.264 its configuration and depth of reordering."""
    entries = list(_boxes(stsd[8:]))
    if len(entries) != 1 or entries[0][0] not in _CODECS:
        raise _NotPlain
    kind, entry = entries[0]
    codec = _CODECS[kind]
    if codec != "h264":
        return codec, b"", None
    config = bytes(_only(entry[_VISUAL_ENTRY_BYTES:], b"avcC"))
    sequence = read_h264_sequence(config)
    if sequence is None or sequence.may_have_fields:
        raise _NotPlain  # its packets must be looked at
    return codec, config, sequence.reordering


def _num_samples(stsz: memoryview, media: Media) -> int:
    size, count = (int.from_bytes(stsz[at : at + 4], "big") for at in (4, 8))
    # Believed only as far as the file could hold it: arrays of this length follow.
    most = min(media.size_bytes // max(1, size), media.budget.packets)
    if not 0 < count <= most:
        raise _NotPlain
    sizes = np.frombuffer(stsz, ">u4", offset=12)
    # Empty samples never become packets, which would shift every later position.
    if not size and (len(sizes) < count or not sizes[:count].all()):
        raise _NotPlain
    return count


def _runs(table: memoryview, count: int, dtype: str = ">u4") -> NDArray[np.int64]:
    """Expand (count, value) rows to int64[count]."""
    row = np.dtype([("count", ">u4"), ("value", dtype)])
    rows = np.frombuffer(table, row, count=int.from_bytes(table[4:8], "big"), offset=8)
    if int(rows["count"].sum()) != count:
        raise _NotPlain
    return np.repeat(rows["value"], rows["count"]).astype(np.int64)


def _keyframes(stss: memoryview | None, count: int) -> NDArray[np.bool_]:
    """bool[count]; without the table every sample is a key frame."""
    if stss is None:
        return np.ones(count, dtype=np.bool_)
    flags = np.zeros(count, dtype=np.bool_)
    numbers = np.frombuffer(stss, ">u4", count=int.from_bytes(stss[4:8], "big"), offset=8)
    flags[numbers.astype(np.int64) - 1] = True
    if not flags[0]:
        raise _NotPlain
    return flags


def _edit(elst: memoryview, rate: Fraction) -> tuple[int, int, int]:
    """Begin and end of the part that is shown, in media ticks, and the delay before it."""
    delay = 0
    shown: tuple[int, int, int] | None = None
    for duration, media_time in _edit_rows(elst):
        ticks = int(duration * rate)
        if shown is not None:
            raise _NotPlain
        if media_time == -1:
            delay += ticks
        else:
            shown = (media_time, media_time + ticks, delay)
    if shown is None:
        raise _NotPlain
    return shown


def _edit_rows(elst: memoryview) -> Iterator[tuple[int, int]]:
    wide = 8 if elst[0] == 1 else 4
    for row in range(int.from_bytes(elst[4:8], "big")):
        at = 8 + row * (2 * wide + 4)
        if bytes(elst[at + 2 * wide : at + 2 * wide + 4]) != b"\0\1\0\0":
            raise _NotPlain
        yield (
            int.from_bytes(elst[at : at + wide], "big"),
            int.from_bytes(elst[at + wide : at + 2 * wide], "big", signed=True),
        )
