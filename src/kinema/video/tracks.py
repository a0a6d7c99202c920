"""The video tracks of a file, and which of them is the film."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from av.stream import Disposition

from kinema.plain import Plain

_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""What FFmpeg calls covers, chapter pictures and photos."""
_CLEAR_SHARE = 0.98
"""Tracks of one length differ by a few frames; below this share of the longest one is shorter."""


@dataclass(frozen=True, kw_only=True)
class VideoTrack(Plain):
    """One video track, as the header of its file describes it."""

    index: int
    """Position among the file's video tracks, as FFmpeg counts them: ``v:0``, ``v:1``, …"""
    codec: str
    width: int
    height: int
    num_pictures: int | None = None
    """None where the header does not say."""
    duration_seconds: float | None = None
    """None where the header does not say."""
    language: str | None = None
    """As the file writes it, ISO 639-2 mostly."""
    title: str | None = None
    default: bool = False
    """Marked as the one to show."""
    cover: bool = False
    """A picture beside the film: a cover, or thumbnails."""


def codec_of(stream: Any) -> str:
    """FFmpeg's name of a track's codec, ``unknown`` where it has none."""
    context = stream.codec_context
    return str(context.codec.canonical_name) if context else "unknown"


def language_of(stream: Any) -> str | None:
    """The language a track is marked with, None where it is not or is undetermined."""
    written = stream.metadata.get("language")
    return None if written in (None, "", "und") else str(written)


def list_tracks(streams: Sequence[Any]) -> tuple[VideoTrack, ...]:
    """The video tracks of an open container, in the file's order."""
    return tuple(
        VideoTrack(
            index=index,
            codec=codec_of(stream),
            width=stream.codec_context.width if stream.codec_context else 0,
            height=stream.codec_context.height if stream.codec_context else 0,
            num_pictures=stream.frames or None,
            duration_seconds=_seconds_of(stream) or None,
            language=language_of(stream),
            title=stream.metadata.get("title") or None,
            default=bool(stream.disposition & Disposition.default),
            cover=bool(stream.disposition & _STILLS),
        )
        for index, stream in enumerate(streams)
    )


def main_track(
    streams: Sequence[Any],
    codecs: Collection[str],
    count_packets: Callable[[], Mapping[int, int]],
) -> Any | None:
    """The video stream that players show: never a cover, never one picture beside a film.

    Of several films the one marked as default, then the longest, the largest, and the first.

    Args:
        streams: ``av.VideoStream`` of one container, in the file's order.
        codecs: those that can be decoded; others are taken only where there is nothing else.
        count_packets: packets at the beginning of the file by stream index; asked for where the
            header does not say how many pictures a stream has.
    """
    films = [stream for stream in streams if not stream.disposition & _STILLS]
    if len(films) < 2:
        return films[0] if films else None
    counts: Mapping[int, int] = {stream.index: stream.frames for stream in films}
    if not all(counts.values()):
        counts = count_packets()
    films = [s for s in films if counts.get(s.index, 0) > 1] or films
    films = [s for s in films if codec_of(s) in codecs] or films
    films = [s for s in films if s.disposition & Disposition.default] or films
    longest = max(map(_seconds_of, films))
    films = [s for s in films if _seconds_of(s) >= longest * _CLEAR_SHARE]
    return max(films, key=_num_pixels)


def _num_pixels(stream: Any) -> int:
    context = stream.codec_context
    return int(context.width * context.height) if context else 0


def _seconds_of(stream: Any) -> float:
    """How long a track is according to its header, 0 where that is not said."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # Matroska has no length of a track; FFmpeg and mkvmerge write it as a tag, "00:01:02.5".
    seconds = 0.0
    try:
        for part in stream.metadata.get("DURATION", "0").split(":"):
            seconds = seconds * 60 + float(part)
    except ValueError:
        return 0.0
    return seconds
