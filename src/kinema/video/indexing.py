"""Making an index: from sample tables, from packets, or by decoding everything once.

The first two cost little and are promises about the decoder's output. They are made where
:mod:`kinema.video.proof` says that they hold, and the reader checks them; the third always holds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kinema.errors import NoFrames
from kinema.video.clock import frame_clock
from kinema.video.container import open_container, video_stream
from kinema.video.index import Origin, VideoIndex, build_index, narrow
from kinema.video.media import Media
from kinema.video.mp4 import read_sample_tables
from kinema.video.packets import MISSING, Packets
from kinema.video.playback import open_playback
from kinema.video.proof import begins_cleanly, doubt, doubt_about_kind, leading_packets
from kinema.video.shown import look_of

_LONGEST_HEAD = 1 << 10
"""Packets that are decoded to find out where a file begins that does not begin with a key."""
_LONG_STEP_SECONDS = 60.0
_MOST_OF_ALL = 0.9


def index_video(media: Media) -> VideoIndex:
    """Find every frame of the video stream, as cheaply as is right for this file.

    Raises:
        MediaError: the file cannot be used; see :mod:`kinema.video.container`.
        NoFrames: a video stream without one packet, or none that can be decoded.
    """
    packets = read_sample_tables(media)
    if packets is None:
        return _index_of_packets(media, tables_hold=True)
    media.budget.check_packets(media.name, len(packets))
    return _index_of(media, packets, "tables")


def index_again(media: Media, broken: VideoIndex, what: str) -> VideoIndex:
    """Another index for a file that showed something else than the last one promised.

    Args:
        broken: the one whose promise did not hold.
        what: how it did not hold, as the end of a sentence.

    Raises:
        MediaError: as :func:`index_video`.
    """
    if broken.origin == "tables":
        index = _index_of_packets(media, tables_hold=False)
        if not index.front_to_back:
            return index
    else:
        index = _index_by_decoding(media, what)
    said = f"{media.name} is not what its packets say ({what}); it was decoded from front to back."
    return replace(index, warnings=(said, *index.warnings))


def _index_of_packets(media: Media, *, tables_hold: bool) -> VideoIndex:
    """An index by the demuxer's packets, or by the tables of the track that is chosen here."""
    with open_container(media) as container:
        stream = video_stream(container, media)
        tables = read_sample_tables(media, track_id=stream.id) if tables_hold else None
        if tables is not None:
            media.budget.check_packets(media.name, len(tables))
            return _index_of(media, tables, "tables")
        kind, codec = container.format.name, stream.codec_context.codec.canonical_name
        why = doubt_about_kind(kind, codec, stream.codec_context.extradata or b"")
        packets = None if why else _read_packets(container, stream, media)
    if packets is None:
        return _index_by_decoding(media, why)
    return _index_of(media, packets, "packets")


def _read_packets(container: Any, stream: Any, media: Media) -> Packets:
    context = stream.codec_context
    codec, config = context.codec.canonical_name, context.extradata or b""
    look = look_of(codec, config)
    rows, looks = [], set()
    for packet in media.metered(container.demux(stream)):
        if not packet.size:
            continue
        seen = "frame" if look is None else look(bytes(packet))
        looks.add(seen)
        rows.append(
            (
                MISSING if packet.pts is None else packet.pts,
                MISSING if packet.dts is None else packet.dts,
                packet.duration or 0,
                packet.is_keyframe,
                packet.is_discard or seen == "nothing",
            )
        )
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    return Packets(
        pts=table[:, 0],
        dts=table[:, 1],
        duration=table[:, 2],
        keyframe=table[:, 3].astype(bool),
        discard=table[:, 4].astype(bool),
        seconds_per_tick=float(stream.time_base or 1 / 90000),
        container=container.format.name,
        codec=codec,
        config=config,
        reordering=context.reorder_depth if codec in ("h264", "hevc") else None,
        doubt="not every packet is one frame" if "unknown" in looks else "",
    )


def _index_of(media: Media, packets: Packets, origin: Origin) -> VideoIndex:
    if not len(packets) or bool(packets.discard.all()):
        raise NoFrames(f"{media.name} has a video track without a frame.", hint="Record it again.")
    if not begins_cleanly(packets):
        seen = _without_unseen_head(media, packets)
        if seen is None:
            return _index_by_decoding(media, "it does not begin with a key frame")
        packets = seen
    why = doubt(packets)
    if why:
        return _index_by_decoding(media, why)
    index = build_index(packets, origin)
    return replace(index, warnings=_words_about_clock(index))


def _without_unseen_head(media: Media, packets: Packets) -> Packets | None:
    """The packets, those at the beginning discarded that no frame comes of.

    A stream that was cut begins with pictures that lean on what was cut off. Which of them a
    decoder shows, only the decoder knows. None where finding out takes too long, or where frames
    are shown that nothing can be read from.
    """
    keys = np.flatnonzero(packets.keyframe)
    if not len(keys):
        return None
    end = int(max(keys[0], *leading_packets(packets)[-1:], 0)) + 1
    if end > _LONGEST_HEAD:
        return None
    came: set[int] = set()
    with open_playback(media) as playback:
        for frame in playback.frames():
            came.add(frame.opaque[0])
            if frame.opaque[0] >= end:
                break
    if any(position < keys[0] for position in came):
        return None
    head = np.arange(len(packets)) < end
    unseen = head & ~np.isin(np.arange(len(packets)), list(came))
    if (packets.discard | unseen).all():
        return None
    return replace(packets, discard=packets.discard | unseen)


def _index_by_decoding(media: Media, reason: str, *, careful: bool = False) -> VideoIndex:
    """An index of the frames that the decoder gives, from the first to the last.

    Raises:
        NoFrames: it gives none.
    """
    with open_playback(media, careful=careful) as playback:
        rows = [
            (
                MISSING if frame.pts is None else frame.pts,
                MISSING if frame.dts is None else frame.dts,
                frame.key_frame,
                frame.duration or 0,
            )
            for frame in playback.frames()
        ]
    if playback.is_damaged and not careful:
        return _index_by_decoding(media, reason, careful=True)
    if not rows:
        raise NoFrames(
            f"{media.name}: not one frame could be decoded.",
            hint="The file is damaged; fetch it again.",
        )
    table = np.array(rows, dtype=np.int64)
    keys = table[:, 2].astype(np.bool_)
    pts, dts = table[:, 0], table[:, 1]
    if not playback.has_presentation_times and (dts != MISSING).any():
        pts = np.full_like(dts, MISSING)
    clock, said = frame_clock(
        pts,
        dts,
        playback.seconds_per_tick,
        frame_seconds=float(np.median(table[:, 3])) * playback.seconds_per_tick,
        closes_gaps=playback.closes_gaps,
    )
    index = VideoIndex(
        timeline=replace(clock, keyframes=keys),
        packet=np.arange(len(table), dtype=np.int32),
        pts=narrow(table[:, 0]),
        dts=narrow(table[:, 1]),
        keys=np.flatnonzero(keys | (np.arange(len(table)) == 0)).astype(np.int32),
        origin="frames",
        reason=reason,
        is_damaged=playback.is_damaged,
    )
    return replace(index, warnings=(*said, *_words_about_clock(index)))


def _words_about_clock(index: VideoIndex) -> tuple[str, ...]:
    """What to say where one frame is shown for nearly all of the time."""
    seconds = index.timeline.seconds
    if len(seconds) < 3:
        return ()
    steps = np.diff(seconds)
    longest = int(steps.argmax())
    length = float(steps[longest])
    if length < max(_LONG_STEP_SECONDS, _MOST_OF_ALL * float(seconds[-1])):
        return ()
    return (
        f"Frame {longest} is shown for {length:,.0f} of {index.timeline.duration_seconds:,.0f} "
        "seconds; a time stamp may be damaged.",
    )
