"""One pass over the packets of a video, without decoding: what is shown when, and from where.

Headers lie about counts, rates and lengths, so all of it comes from the packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import NoFrames
from kinema.video.container import open_container, video_stream
from kinema.video.media import Media
from kinema.video.mp4 import read_sample_tables
from kinema.video.packets import MISSING, Packets
from kinema.video.timeline import Timeline


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where every presented frame is found.

    ``packet[i]`` is the decoding-order position of frame ``i``; ``entry[i]`` the position of
    the key frame that decoding has to begin at to get frame ``i`` exactly.
    """

    timeline: Timeline
    packets: Packets
    packet: NDArray[np.int64]
    """int64[N] frame to packet."""
    entry: NDArray[np.int64]
    """int64[N] frame to key packet."""
    by_order: bool
    """True where packets carry no presentation times: frames are told apart by counting them."""


def index_video(media: Media) -> VideoIndex:
    """Find every frame of the video stream, from sample tables or else from all its packets.

    Raises:
        MediaError: the file cannot be used; see :mod:`kinema.video.container`.
        NoFrames: a video stream without one packet.
    """
    packets = read_sample_tables(media)
    if packets is not None:
        media.budget.check_packets(media.name, len(packets))
    else:
        with open_container(media) as container:
            packets = _read_packets(container, video_stream(container, media), media)
    if not len(packets) or bool(packets.discard.all()):
        raise NoFrames(f"{media.name} has a video track without a frame.", hint="Record it again.")
    return build_index(packets)


def _read_packets(container: Any, stream: Any, media: Media) -> Packets:
    rows = [
        (
            MISSING if p.pts is None else p.pts,
            MISSING if p.dts is None else p.dts,
            p.duration or 0,
            p.is_keyframe,
            p.is_discard,
        )
        for p in media.metered(container.demux(stream))
        if p.size
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    return Packets(
        pts=table[:, 0],
        dts=table[:, 1],
        duration=table[:, 2],
        keyframe=table[:, 3].astype(bool),
        discard=table[:, 4].astype(bool),
        seconds_per_tick=float(stream.time_base or 1 / 90000),
    )


def build_index(packets: Packets) -> VideoIndex:
    """Put packets into presentation order and find where each must be decoded from."""
    shown = np.flatnonzero(~packets.discard)
    by_order = bool((packets.pts[shown] == MISSING).any())
    ticks = _decode_clock(packets)[shown] if by_order else packets.pts[shown]
    order = np.argsort(ticks, kind="stable")
    shown, ticks = shown[order], ticks[order]
    return VideoIndex(
        timeline=_timeline(packets, shown, ticks),
        packets=packets,
        packet=shown,
        entry=_entries(packets, shown, by_order),
        by_order=by_order,
    )


def _decode_clock(packets: Packets) -> NDArray[np.int64]:
    """Times of the n-th packet where presentation times are missing: frames leave in this order."""
    known = packets.dts != MISSING
    if known.all() and (np.diff(packets.dts) > 0).all():
        return packets.dts
    step = int(np.median(packets.duration)) or round(1 / 25 / packets.seconds_per_tick) or 1
    return np.arange(len(packets), dtype=np.int64) * step


def _timeline(packets: Packets, shown: NDArray[np.int64], ticks: NDArray[np.int64]) -> Timeline:
    seconds = (ticks - ticks[0]) * packets.seconds_per_tick
    # Two frames with one time: the later gets the next microsecond, so that the clock increases.
    nudge = np.arange(len(seconds)) * 1e-6
    seconds = np.maximum.accumulate(seconds - nudge) + nudge
    last = int(packets.duration[shown[-1]])
    step = last * packets.seconds_per_tick if last > 0 else _typical_step(seconds)
    return Timeline(seconds, packets.keyframe[shown], float(seconds[-1]) + step)


def _typical_step(seconds: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0


def _entries(packets: Packets, shown: NDArray[np.int64], by_order: bool) -> NDArray[np.int64]:
    """The key packet to begin at, for every shown frame.

    A frame decoded after a key frame but shown before it leans on the group before as well, so its
    entry is one key frame earlier (open groups of pictures, the default of x265).
    """
    keys = np.flatnonzero(packets.keyframe)
    if by_order or not len(keys):
        return np.zeros(len(shown), dtype=np.int64)
    group = np.searchsorted(keys, shown, side="right") - 1
    leads = packets.pts[shown] < packets.pts[keys[np.maximum(group, 0)]]
    group = np.maximum(group - leads, 0)
    return np.minimum(keys[group], shown)
