"""Whether packets tell what the decoder will show, and if not, why.

A packet is no frame. An index made of packets is a promise about the decoder's output, so it is
made only where container and codec are known to keep it: each packet is one frame, shown at the
packet's time, and decoding can begin at each key packet. Any other file is decoded once from front
to back, which needs no promise.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from kinema.video.packets import MISSING, Packets

_TIMED = frozenset(
    {"mov", "matroska", "mpegts", "flv", "nut", "ivf", "gif", "apng", "yuv4mpegpipe"}
)
"""Demuxers whose packets carry presentation times, also where pictures are reordered."""
_UNTIMED = frozenset({"avi", "asf", "mxf"})
"""Demuxers that give decoding times only, or guess; right where nothing is reordered."""

_GUESSED_DECODING_TIMES = frozenset({"matroska", "nut", "ivf"})
"""Demuxers whose containers store presentation times alone."""

_IN_ORDER = frozenset(
    (
        *("mjpeg", "gif", "png", "apng", "webp", "jpeg2000", "rawvideo", "v210", "qtrle"),
        *("prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "dvvideo", "cinepak"),
        *("h263", "flv1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"),
    )
)
"""Codecs without pictures that are shown before one that was decoded earlier."""
_REORDERED = frozenset(
    (
        *("h264", "hevc", "vp8", "vp9", "av1", "vp6", "vp6f"),
        *("mpeg4", "mpeg1video", "mpeg2video"),
    )
)
"""Codecs with such pictures, whose packets are single frames all the same."""

_MOST_REORDERED = {
    **dict.fromkeys(_IN_ORDER, 0),
    **{"vp8": 0, "vp9": 0, "av1": 0, "vp6": 0, "vp6f": 0},
    **{"mpeg1video": 1, "mpeg2video": 1, "mpeg4": 1},
}
"""Frames that are decoded before another one and shown after it."""
_LARGEST_BUFFER = 16
"""The same of H.264 and HEVC (H.264, section A.3.1)."""
_FURTHEST = 48
_LARGEST_JUMP_SECONDS = 10.0
_JUMPING = frozenset({"mpegts", "mpeg"})
"""Demuxers of streams whose clock may be set anew; players close such a gap."""
_PACKED_PICTURES = re.compile(rb"DivX\d+[bB]uild\d+p|DivX\d+b\d+p")
"""What encoders write into MPEG-4 streams that hold two pictures in one packet."""


def doubt_about_kind(container: str, codec: str, config: bytes) -> str:
    """Why packets of this kind do not tell the frames, as the end of a sentence; empty if they do.

    Args:
        container: FFmpeg's name of the demuxer.
        codec: FFmpeg's name of the codec.
        config: the decoder configuration, empty where the container holds none.
    """
    kind = container.split(",", maxsplit=1)[0]
    is_told = codec in _IN_ORDER or (codec in _REORDERED and kind in _TIMED)
    if kind not in _TIMED | _UNTIMED or not is_told:
        return f"packets of {codec} in the container {kind} do not tell the frames"
    if codec == "mpeg4" and _PACKED_PICTURES.search(config):
        return "its packets hold two pictures each"
    return ""


def doubt(packets: Packets) -> str:
    """Why these packets do not tell the frames, as the end of a sentence; empty where they do."""
    return (
        doubt_about_kind(packets.container, packets.codec, packets.config)
        or packets.doubt
        or _doubt_about_times(packets, packets.container.split(",")[0])
    )


def _doubt_about_times(packets: Packets, kind: str) -> str:
    shown = np.flatnonzero(~packets.discard)
    pts = packets.pts[shown]
    if (pts == MISSING).any():
        return "some of its packets carry no time"
    if _deepest_reordering(pts) > _most_reordered(packets):
        return "its times do not follow the order of its packets"
    steps = np.diff(packets.dts[packets.dts != MISSING])
    if kind not in _GUESSED_DECODING_TIMES and (steps < 0).any():
        return "its clock runs backwards"
    if kind in _JUMPING and (steps * packets.seconds_per_tick > _LARGEST_JUMP_SECONDS).any():
        return "its clock jumps"
    return ""


def _deepest_reordering(pts: NDArray[np.int64]) -> int:
    """Most frames that are decoded before another one and shown after it.

    Of H.264 that is max_num_reorder_frames (section E.2.1). Beyond ``_FURTHEST`` packets it is
    enough to know that a time lies wrong at all.
    """
    ranks = np.empty(len(pts), dtype=np.int64)
    ranks[np.argsort(pts, kind="stable")] = np.arange(len(pts))
    if (np.abs(ranks - np.arange(len(pts))) > _FURTHEST).any():
        return _FURTHEST
    depth = np.zeros(len(pts), dtype=np.int64)
    for back in range(1, min(_FURTHEST + 1, len(pts))):
        depth[back:] += ranks[:-back] > ranks[back:]
    return int(depth.max())


def _most_reordered(packets: Packets) -> int:
    """How deeply frames of this stream may be reordered."""
    if packets.reordering is not None:
        return packets.reordering
    return _MOST_REORDERED.get(packets.codec, _LARGEST_BUFFER)


def begins_cleanly(packets: Packets) -> bool:
    """True where the first packet is a key and no frame leans on something before it."""
    leading = leading_packets(packets)
    return bool(packets.keyframe[0]) and not len(leading)


def leading_packets(packets: Packets) -> NDArray[np.int64]:
    """int64[M], packets after the first key that are shown before it."""
    keys = np.flatnonzero(packets.keyframe)
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    stop = keys[1] if len(keys) > 1 else len(packets)
    after = np.arange(keys[0] + 1, stop)
    early = (packets.pts[after] < packets.pts[keys[0]]) & ~packets.discard[after]
    return np.asarray(after[early], dtype=np.int64)
