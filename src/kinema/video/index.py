"""When each frame of a video is shown and which packet it comes from.

Headers lie about counts, rates and lengths, so all of it comes from the packets, or from the
decoder itself where packets do not tell; see :mod:`kinema.video.indexing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinema.video.packets import MISSING, Packets
from kinema.video.timeline import Timeline

Ticks = NDArray[np.int32] | NDArray[np.int64]
Origin = Literal["tables", "packets", "frames"]


class BrokenPromise(Exception):
    """The decoder shows something else than the index says; the argument says what.

    It never leaves the package: the reader then decodes from front to back.
    """


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where every presented frame is found; about twenty bytes a frame.

    It stays for as long as its film is read, so it holds what finding a frame takes and no more.
    Where it was made by decoding everything (``front_to_back``), a "packet" is a frame in the order
    that the decoder gives them, and reading begins at the first.
    """

    timeline: Timeline
    packet: NDArray[np.int32]
    """int32[N], decoding-order position of the packet that frame ``i`` comes from."""
    pts: Ticks
    """int32[P] or int64[P], presentation times of all packets in decoding order."""
    dts: Ticks
    """int32[P] or int64[P], their decoding times."""
    keys: NDArray[np.int32]
    """int32[K], positions of the packets that decoding can begin at."""
    origin: Origin
    """What it was made of: the container's tables, the packets, or decoded frames."""
    reason: str = ""
    """Why packets do not tell the frames, as the end of a sentence."""
    is_damaged: bool = False
    """True where decoding everything met damage; such a file is decoded in one thread."""
    warnings: tuple[str, ...] = ()
    """What every reader of this file should know."""

    @property
    def num_packets(self) -> int:
        """P, shown or not."""
        return len(self.pts)

    @property
    def front_to_back(self) -> bool:
        """True where frames are found by decoding all that come before them."""
        return self.origin == "frames"

    def zero_seconds(self, stream: Any) -> float:
        """Container time of the first picture that is shown: presentation time 0.

        Later than the stream's own start where a file begins with packets that show nothing.

        Args:
            stream: ``av.VideoStream`` that this index is of.
        """
        ticks = int(self.pts[self.packet[0]])
        if ticks == MISSING:
            ticks = stream.start_time or 0
        return float(ticks * stream.time_base)

    def groups(self, packets: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[M], positions in ``keys`` of the group each packet belongs to, at least 0."""
        return np.maximum(np.searchsorted(self.keys, packets, side="right") - 1, 0)

    def leads(self, packets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[M], packets decoded after their key and shown before it (open groups of pictures).

        They lean on the group before as well.
        """
        return np.asarray(self.pts[packets] < self.pts[self.keys[self.groups(packets)]])

    def entries(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[M], the key packet that decoding has to begin at to get each frame exactly.

        One key earlier for frames that lean on the group before (the default of x265).
        """
        if self.front_to_back:
            return np.zeros(len(frames), dtype=np.int64)
        packets = self.packet[frames].astype(np.int64)
        group = np.maximum(self.groups(packets) - self.leads(packets), 0)
        return self.keys[group].astype(np.int64)


def build_index(packets: Packets, origin: Origin) -> VideoIndex:
    """Put packets into presentation order."""
    shown = np.flatnonzero(~packets.discard)
    order = np.argsort(packets.pts[shown], kind="stable")
    shown = shown[order]
    entries = packets.keyframe.copy()
    entries[0] = True
    return VideoIndex(
        timeline=_timeline(packets, shown),
        packet=shown.astype(np.int32),
        pts=narrow(packets.pts),
        dts=narrow(packets.dts),
        keys=np.flatnonzero(entries).astype(np.int32),
        origin=origin,
    )


def narrow(ticks: NDArray[np.int64]) -> Ticks:
    """The same times in half the bytes where they fit: hours do, also at 90 kHz."""
    limits = np.iinfo(np.int32)
    fits = limits.min <= ticks.min() and ticks.max() <= limits.max
    return ticks.astype(np.int32) if fits else ticks


def _timeline(packets: Packets, shown: NDArray[np.int64]) -> Timeline:
    ticks = packets.pts[shown]
    seconds = increasing((ticks - ticks[0]) * packets.seconds_per_tick)
    step = int(packets.duration[shown[-1]]) * packets.seconds_per_tick
    if step <= 0:
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return Timeline(seconds, packets.keyframe[shown], float(seconds[-1]) + step)


def increasing(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same times, where two frames with one time are a microsecond apart."""
    nudge = np.arange(len(seconds)) * 1e-6
    return np.asarray(np.maximum.accumulate(seconds - nudge) + nudge)
