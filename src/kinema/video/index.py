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

Ticks = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where every presented frame is found; about twenty bytes a frame.

    It stays for as long as its film is read, so it holds what finding a frame takes and no more.
    """

    timeline: Timeline
    packet: NDArray[np.int32]
    """int32[N], decoding-order position of the packet that frame ``i`` comes from."""
    pts: Ticks
    """int32[P] or int64[P], presentation times of all packets in decoding order."""
    dts: Ticks
    """int32[P] or int64[P], their decoding times."""
    keys: NDArray[np.int32]
    """int32[K], positions of the key packets."""
    by_order: bool
    """True where packets carry no presentation times: frames are told apart by counting them."""

    @property
    def num_packets(self) -> int:
        """P, shown or not."""
        return len(self.pts)

    def entries(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[M], the key packet that decoding has to begin at to get each frame exactly.

        A frame decoded after a key frame but shown before it leans on the group before as well,
        so its entry is one key frame earlier (open groups of pictures, the default of x265).
        """
        if self.by_order or not len(self.keys):
            return np.zeros(len(frames), dtype=np.int64)
        packets = self.packet[frames]
        group = np.searchsorted(self.keys, packets, side="right") - 1
        leads = self.pts[packets] < self.pts[self.keys[np.maximum(group, 0)]]
        group = np.maximum(group - leads, 0)
        return np.minimum(self.keys[group], packets).astype(np.int64)


def index_video(media: Media) -> VideoIndex:
    """Find every frame of the video stream, from sample tables or else from all its packets.

    Raises:
        MediaError: the file cannot be used; see :mod:`kinema.video.container`.
        NoFrames: a video stream without one packet.
    """
    packets = read_sample_tables(media)
    if packets is None:
        with open_container(media) as container:
            stream = video_stream(container, media)
            packets = read_sample_tables(media, track_id=stream.id)
            if packets is None:
                packets = _read_packets(container, stream, media)
    media.budget.check_packets(media.name, len(packets))
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
    """Put packets into presentation order."""
    shown = np.flatnonzero(~packets.discard)
    by_order = bool((packets.pts[shown] == MISSING).any())
    ticks = _decode_clock(packets)[shown] if by_order else packets.pts[shown]
    order = np.argsort(ticks, kind="stable")
    shown, ticks = shown[order], ticks[order]
    return VideoIndex(
        timeline=_timeline(packets, shown, ticks),
        packet=shown.astype(np.int32),
        pts=_narrow(packets.pts),
        dts=_narrow(packets.dts),
        keys=np.flatnonzero(packets.keyframe).astype(np.int32),
        by_order=by_order,
    )


def _narrow(ticks: NDArray[np.int64]) -> Ticks:
    """The same times in half the bytes where they fit: hours do, also at 90 kHz."""
    limits = np.iinfo(np.int32)
    fits = limits.min <= ticks.min() and ticks.max() <= limits.max
    return ticks.astype(np.int32) if fits else ticks


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
    step = int(packets.duration[shown[-1]]) * packets.seconds_per_tick
    if step <= 0:
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return Timeline(seconds, packets.keyframe[shown], float(seconds[-1]) + step)
