"""Decoding with PyAV: only from the key frame before each wanted frame, only to that frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from kinema.video.container import open_container, video_stream
from kinema.video.decoder import Decoded, Size
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.picture import to_rgb


@dataclass(frozen=True, eq=False)
class Run:
    """Packets to decode in one go, and the frames to keep of them."""

    entry: int
    """Packet to begin at."""
    stop: int
    """One past the last packet that a kept frame comes from."""
    frames: dict[int, int]
    """Packet to frame index."""


def plan_runs(index: VideoIndex, wanted: NDArray[np.int64]) -> list[Run]:
    """Group wanted frames by the key frame they are decoded from, in decoding order."""
    runs: list[Run] = []
    for frame in sorted(wanted.tolist(), key=lambda f: int(index.packet[f])):
        packet, entry = int(index.packet[frame]), int(index.entry[frame])
        if runs and entry <= runs[-1].stop:
            last = runs.pop()
            runs.append(Run(last.entry, packet + 1, last.frames | {packet: frame}))
        else:
            runs.append(Run(entry, packet + 1, {packet: frame}))
    return runs


def decode(
    media: Media, index: VideoIndex, wanted: NDArray[np.int64], *, size: Size | None = None
) -> Decoded:
    """Decode the wanted frames; the decoder protocol of :mod:`kinema.video.decoder`.

    Raises:
        MediaError: the file cannot be opened at all.
    """
    pictures: dict[int, NDArray[np.uint8]] = {}
    damaged = 0
    with open_container(media) as container:
        stream = video_stream(container, media)
        reader = Reader(container, stream, index)
        aspect = float(stream.sample_aspect_ratio or 1)
        for run in plan_runs(index, wanted):
            for frame_index, frame in reader.read(run):
                pictures[frame_index] = to_rgb(frame, pixel_aspect=aspect, size=size)
        damaged = reader.num_errors
    said = f"The decoder reported {damaged} damaged packets." if damaged else ""
    return Decoded(pictures, (said,) if said else ())


class Reader:
    """One open decoder that can be sent from run to run."""

    def __init__(self, container: Any, stream: Any, index: VideoIndex) -> None:
        self._container = container
        self._stream = stream
        self._index = index
        self._context = stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.copy_opaque = True
        self.num_errors = 0

    def read(self, run: Run) -> Iterator[tuple[int, Any]]:
        """Yield (frame index, ``av.VideoFrame``) of a run's frames, in decoding order."""
        left = dict(run.frames)
        for frame in self._frames(run):
            frame_index = left.pop(self._packet_of(frame), None)
            if frame_index is not None:
                yield frame_index, frame
            if not left:
                return

    def _packet_of(self, frame: Any) -> int:
        position: int = frame.opaque
        return position

    def _frames(self, run: Run) -> Iterator[Any]:
        for position, packet in self._packets_from(run.entry):
            packet.opaque = position
            yield from self._decode(packet)
            if position + 1 >= run.stop:
                break
        yield from self._decode(None)
        self._context.flush_buffers()

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._context.decode(packet)
        except FFmpegError:
            self.num_errors += 1
            return []
        return frames

    def _packets_from(self, entry: int) -> Iterator[tuple[int, Any]]:
        """(decoding-order position, packet) from packet ``entry`` on."""
        for seek_to in self._seek_candidates(entry):
            if seek_to is None:
                self._container.seek(0, backward=True, any_frame=False)
            else:
                self._container.seek(seek_to, stream=self._stream, backward=True)
            packets = (p for p in self._container.demux(self._stream) if p.size)
            position = -1
            for packet in packets:
                position = position + 1 if position >= 0 else self._locate(packet)
                if position < 0:
                    continue
                if position > entry:
                    break
                if position == entry:
                    yield position, packet
                    yield from enumerate(packets, start=position + 1)
                    return

    def _seek_candidates(self, entry: int) -> Iterator[int | None]:
        packets = self._index.packets
        if not self._index.by_order and entry > 0:
            yield int(packets.pts[entry])
            yield int(packets.dts[entry])
        yield None

    def _locate(self, packet: Any) -> int:
        """Position of the first packet after a seek, -1 while it is unknown."""
        # Some demuxers guess other decoding times after a seek, so those only break ties.
        packets = self._index.packets
        if packet.pts is None:
            return -1
        found = np.flatnonzero(packets.pts == packet.pts)
        if len(found) > 1:
            found = found[packets.dts[found] == packet.dts]
        return int(found[0]) if len(found) else -1
