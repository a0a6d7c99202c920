"""An open file and its decoder, sent from run to run; where files are long, from call to call.

FFmpeg reads all tables of a file when it opens it: a tenth of a second for two hours, a second for
ten. Whoever takes a long film piece by piece keeps it open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

from kinema.video.container import open_container, translated, video_stream
from kinema.video.disposable import continuity_of, decoder_may_skip, packet_filter
from kinema.video.index import BrokenPromise, VideoIndex
from kinema.video.media import Media
from kinema.video.packets import MISSING
from kinema.video.playback import MOST_UNREADABLE
from kinema.video.runs import Run

_BEFORE_EVERYTHING = -(1 << 40)
_SAYS_KEYS = frozenset(
    (
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg1video", "mpeg2video"),
        *("msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "h263", "flv1", "ffv1"),
    )
)
"""Codecs whose decoders tell which frames are keys."""
_REORDER_DEPTH = 16
"""No codec here shows a frame more than this many packets after it was decoded."""
_LONG_PACKETS = 1 << 14
"""Ten minutes; opening a shorter file takes a few milliseconds."""


@contextmanager
def open_reader(
    media: Media, index: VideoIndex, *, num_threads: int, careful: bool = False
) -> Iterator[Reader]:
    """A reader for one call, closed or kept on the way out.

    Args:
        media: the file.
        index: its index.
        num_threads: of the decoder.
        careful: decode every packet in one thread, so that damage gives the same pictures always.

    Raises:
        MediaError: see :func:`kinema.video.container.open_container`.
    """
    careful = careful or index.is_damaged
    with translated(media):
        reader = None if careful else kept.take(media, index, num_threads)
        reader = reader or Reader(media, index, num_threads=num_threads, careful=careful)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        kept.put(reader)


class Kept:
    """Readers between calls, all of the long film that was read last."""

    def __init__(self) -> None:
        self.most = 0
        """How many; a process that wants to keep some says so."""
        self._readers: list[Reader] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            self._close_all_but(0)

    def take(self, media: Media, index: VideoIndex, num_threads: int) -> Reader | None:
        """One that has the file open, and threads enough; those of other files are closed."""
        with self._lock:
            if not self._readers:
                return None
            file = _identity(media)
            if any(reader.file != file or reader.index is not index for reader in self._readers):
                self._close_all_but(0)  # the file is another one, or has changed
            for reader in self._readers:
                if reader.num_threads >= num_threads:
                    self._readers.remove(reader)
                    reader.begin(media)
                    return reader
        return None

    def put(self, reader: Reader) -> None:
        """Keep it where that pays, and those with the most threads where there are too many."""
        index = reader.index
        is_short = index.num_packets < _LONG_PACKETS
        if reader.file is None or is_short or index.front_to_back or reader.is_careful:
            reader.close()
            return
        with self._lock:
            self._readers.append(reader)
            self._readers.sort(key=lambda one: one.num_threads, reverse=True)
            self._close_all_but(self.most)

    def _close_all_but(self, count: int) -> None:
        while len(self._readers) > count:
            self._readers.pop().close()


kept = Kept()


def _identity(media: Media) -> tuple[object, ...] | None:
    """What stays the same while a name leads to the same bytes, read within the same limits."""
    if media.path is None:
        return None
    try:
        stat = media.path.stat()
    except OSError:
        return None
    when = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    limits = (media.track, media.budget.pixels)
    return media.path.absolute(), stat.st_dev, stat.st_ino, *when, *limits


class Reader:
    """One open decoder that can be sent from run to run.

    It holds every frame against the index. ``BrokenPromise`` is raised where the decoder shows
    something else although nothing is damaged.

    Raises:
        MediaError: the file cannot be opened.
    """

    def __init__(
        self, media: Media, index: VideoIndex, *, num_threads: int = 1, careful: bool = False
    ) -> None:
        self.file = _identity(media)
        self.index = index
        self.is_careful = careful
        self.num_threads = num_threads = 1 if careful else num_threads
        self._next = 0
        with ExitStack() as stack:
            self._container = stack.enter_context(open_container(media))
            self._stream = video_stream(self._container, media)
            # The decoder is set up before it is opened by its first packet.
            self._context = self._stream.codec_context
            self._context.thread_count = num_threads
            self._context.thread_type = "AUTO" if num_threads > 1 else "SLICE"
            self._context.copy_opaque = True
            self._says_keys = self._context.codec.canonical_name in _SAYS_KEYS
            sends_all = index.front_to_back or careful
            self._skips = decoder_may_skip(self._context) and not sends_all
            self._is_disposable = None if sends_all else packet_filter(self._context)
            self._continuity = continuity_of(self._context)
            self._open = stack.pop_all()
        self.begin(media)

    def begin(self, media: Media) -> None:
        """A call begins, with a budget of its own."""
        self._media = media
        self.num_errors = 0
        """Packets that the decoder refused in the run that was read last."""
        self._damage: list[tuple[int, int]] = []
        self._num_shown = 0

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height."""
        return float(self._stream.sample_aspect_ratio or 1)

    def read(self, run: Run) -> Iterator[tuple[int, Any]]:
        """Yield (frame index, ``av.VideoFrame``) of a run's frames, in presentation order.

        Raises:
            BrokenPromise: see above.
        """
        self._damage, self._num_shown, self.num_errors = [], 0, 0
        if self._continuity:
            self._continuity.begin()
        left = dict(run.frames)
        last = MISSING
        for frame in self._frames(run):
            position = self._num_shown if self.index.front_to_back else frame.opaque[0]
            self._num_shown += 1
            if position == run.entry and not self._begins_a_group(frame):
                raise BrokenPromise("a key packet is no key")
            if frame.is_corrupt:
                self._note_damage(position)
            if not self._is_promised(frame, position, last):
                continue
            last = MISSING if frame.pts is None else frame.pts
            frame_index = left.pop(position, None)
            if frame_index is not None:
                yield frame_index, frame
            if not left and not self.is_careful:
                break
        self._context.flush_buffers()

    def refuse(self, frame_index: int) -> None:
        """Count a frame of this run that came and cannot be used as damaged."""
        self.num_errors += 1
        self._note_damage(int(self.index.packet[frame_index]))

    @property
    def is_damaged(self) -> bool:
        """True when the run that was read last met damage, or the end of the file."""
        return bool(self._damage)

    def touched_by_damage(self, run: Run) -> set[int]:
        """Frames of the run just read that were decoded after damage, in its group of pictures."""
        if not self._damage:
            return set()
        packets = np.array(list(run.frames), dtype=np.int64)
        begins = self.index.keys[self.index.groups(packets)]
        begins = np.where(self.index.leads(packets), begins - 1, begins)
        touched = np.zeros(len(packets), dtype=np.bool_)
        for start, stop in self._damage:
            touched |= (start <= packets) & (begins < stop)
        return {run.frames[packet] for packet in packets[touched].tolist()}

    def _begins_a_group(self, frame: Any) -> bool:
        """Whether decoding may begin here; some files call every packet a key."""
        if self.index.front_to_back or self._damage or not self._says_keys:
            return True
        return frame.key_frame or bool(frame.pict_type == PictureType.I)

    def _is_promised(self, frame: Any, position: int, last: int) -> bool:
        """Whether this is the frame that the index speaks of; after damage it may be another."""
        promised = int(self.index.pts[position]) if position < self.index.num_packets else None
        if self.index.front_to_back:
            if (MISSING if frame.pts is None else frame.pts) != promised:
                self._note_damage(position)
            return True
        if frame.pts is None or (frame.pts == promised and frame.pts >= last):
            return True
        if self._damage:
            return False
        raise BrokenPromise("frames come with other times or in another order")

    def _note_damage(self, position: int) -> None:
        """Something was wrong at a packet, or at one that another thread was still decoding."""
        keys, latest = self.index.keys, position
        if self.index.front_to_back:
            position = self._num_shown  # what went wrong is shown now or a little later
            latest = position + self.num_threads + _REORDER_DEPTH
        after = int(np.searchsorted(keys, latest, side="right"))
        stop = int(keys[after]) if after < len(keys) else self.index.num_packets
        self._damage.append((position - self.num_threads, stop))

    def _frames(self, run: Run) -> Iterator[Any]:
        position, whole = run.entry, self.index.front_to_back
        for position, packet in self._packets_from(run.entry):
            # PyAV keeps these by identity, and small integers are one object in all threads.
            packet.opaque = [position]
            if packet.is_corrupt and not whole:  # in a whole pass the seams of clips look like it
                self._note_damage(position)
            finding = self._continuity.look(packet) if self._continuity else "fine"
            if finding == "lost" or (finding == "suspect" and not (whole or self.is_careful)):
                self._note_damage(position)
            if not self._may_drop(packet, is_wanted=position in run.frames):
                yield from self._decode(packet, position)
            if position + 1 >= run.stop and not whole:
                break
        else:
            if position + 1 < run.stop and not whole:
                self._note_damage(position + 1)  # the file ends early
        yield from self._decode(None, position)

    def _may_drop(self, packet: Any, *, is_wanted: bool) -> bool:
        """True for a packet nobody needs; some decoders are told to find them by themselves."""
        if self._skips:
            self._context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
        if is_wanted or self._is_disposable is None:
            return False
        return self._is_disposable(bytes(packet))

    def _decode(self, packet: Any, position: int) -> list[Any]:
        try:
            frames: list[Any] = self._context.decode(packet)
        except FFmpegError:
            self.num_errors += 1
            self._note_damage(position)
            return []
        return frames

    def _packets_from(self, entry: int) -> Iterator[tuple[int, Any]]:
        """(decoding-order position, packet) from packet ``entry`` on."""
        numbered = self._onward(self._next) if self._next == entry else self._seek(entry)
        for position, packet in numbered:
            self._next = position + 1
            yield position, packet

    def _onward(self, position: int) -> Iterator[tuple[int, Any]]:
        """(position, packet) of those that follow; one that cannot be read is damage."""
        for _ in range(MOST_UNREADABLE):
            try:
                for packet in self._media.metered(self._container.demux(self._stream)):
                    if not packet.size:
                        continue
                    if position < 0:
                        position = self._locate(packet)
                    if position >= 0:
                        yield position, packet
                        position += 1
            except FFmpegError:
                self._note_damage(max(position, 0))
                position = position if self.index.front_to_back else -1
            else:
                return

    def _seek(self, entry: int) -> Iterator[tuple[int, Any]]:
        ends_early = False
        for seek_to in self._seek_candidates(entry):
            try:
                self._container.seek(seek_to, stream=self._stream, backward=True)
            except FFmpegError:
                continue
            position, packet = self._land(entry)
            if position == entry:
                return chain([(entry, packet)], self._onward(entry + 1))
            ends_early = 0 <= position < entry
        if ends_early:
            return iter(())
        raise BrokenPromise("a packet is not found where it was")

    def _land(self, entry: int) -> tuple[int, Any]:
        """The packet at ``entry`` after a seek, or else the first beyond it or the file's last."""
        position, packet = -1, None
        for _, packet in self._onward(0):
            position = position + 1 if position >= 0 else self._locate(packet)
            if position >= entry:
                break
        return position, packet

    def _seek_candidates(self, entry: int) -> Iterator[int]:
        """Times to seek to, the likeliest first."""
        pts, dts = self.index.pts, self.index.dts
        times = [int(pts[entry]), int(dts[entry]), int(dts.min())]
        times = [_BEFORE_EVERYTHING, *times] if entry == 0 else [*times, _BEFORE_EVERYTHING]
        return (t for t in times if t != MISSING)

    def _locate(self, packet: Any) -> int:
        """Position of the first packet after a seek, -1 while it is unknown."""
        # Some demuxers guess other decoding times after a seek, so those only break ties.
        if packet.pts is None:
            return -1
        found = np.flatnonzero(self.index.pts == packet.pts)
        if len(found) > 1:
            found = found[self.index.dts[found] == packet.dts]
        return int(found[0]) if len(found) else -1
