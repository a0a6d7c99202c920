"""Reading subtitles: tracks inside a video's file, and files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from kinema.errors import DecodeFailed, NoSubtitles, TooLarge
from kinema.types import Frames, Source
from kinema.video.access import LOCAL, MEBIBYTE, Access
from kinema.video.cache import cached_index
from kinema.video.container import open_container, video_stream
from kinema.video.cues import (
    Cue,
    Subtitles,
    SubtitleTrack,
    best_track,
    find_sidecars,
    parse_track,
)
from kinema.video.media import Media
from kinema.video.pictures import find_pictures
from kinema.video.source import open_local, open_media
from kinema.video.stills import is_image
from kinema.video.tracks import codec_of, language_of

_TEXT = frozenset({"subrip", "ass", "webvtt", "mov_text", "text"})
_PICTURES = frozenset({"hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub"})
_SIDECARS = {
    ".srt": ("srt", "subrip"),
    ".vtt": ("webvtt", "webvtt"),
    ".ass": ("ass", "ass"),
    ".ssa": ("ass", "ass"),
    ".sup": ("", "hdmv_pgs_subtitle"),
    ".idx": ("", "dvd_subtitle"),
}
"""FFmpeg's demuxer and codec of files by their end."""
_MOST_BYTES = 16 * MEBIBYTE
"""Of a file beside a video."""
_ANY_SECONDS = 5.0
"""A cue whose end is not told is shown until the next one, and no longer than this."""
_OVERRIDE = re.compile(r"\{[^}]*\}")
_DRAWING = re.compile(r"\{[^}]*\\p[1-9]")


def load_subtitles(
    source: Source,
    *,
    track: int | str | Path | None = None,
    access: Access = LOCAL,
) -> tuple[Cue, ...]:
    """The subtitles of a video: words, and when they are shown.

    Args:
        source: see :func:`kinema.video.load_frames`.
        track: position among the subtitles that :func:`kinema.video.probe` lists, or a subtitle
            file; None or ``auto`` takes the text that players show.
        access: what the source may reach.

    Raises:
        NoSubtitles: there are none, not so many, or they are pictures of words.
        MediaError: the source cannot be used.
    """
    return read_subtitles(source, track=track, access=access).cues


def read_subtitles(
    source: Source,
    *,
    track: int | str | Path | None = None,
    video_track: int | None = None,
    access: Access = LOCAL,
) -> Subtitles:
    """The subtitles of a video, and where they came from; see :func:`load_subtitles`.

    Args:
        video_track: the video track that time is counted on; None for the one that players show.
    """
    wanted = parse_track(track)
    if isinstance(wanted, Path):
        return _read_file(wanted, SubtitleTrack(index=0, codec=_codec_of(wanted)), access)
    if isinstance(source, Frames) or find_pictures(source, access) is not None:
        raise NoSubtitles("Pictures have no subtitles.", hint="Give a video file.")
    media = open_media(source, access, track=video_track)
    if is_image(media):
        raise NoSubtitles(f"{media.name} is a picture, without subtitles.", hint="Give a video.")
    with open_container(media) as container:
        tracks = list_subtitles(container, media)
        chosen = _choose(tracks, wanted, media)
        if chosen.file is None:
            stream = container.streams.subtitles[chosen.index]
            zero = cached_index(media).zero_seconds(video_stream(container, media))
            return Subtitles(track=chosen, cues=_cues(container, stream, media, zero=zero))
    assert media.path is not None
    return _read_file(media.path.with_name(chosen.file), chosen, access)


def list_subtitles(container: Any, media: Media) -> tuple[SubtitleTrack, ...]:
    """The subtitles inside an open container, and those in files beside it."""
    inside = [
        SubtitleTrack(
            index=index,
            codec=codec_of(stream),
            kind=_kind_of(codec_of(stream)),
            language=language_of(stream),
            title=stream.metadata.get("title") or None,
            default=bool(stream.disposition & Disposition.default),
            forced=bool(stream.disposition & Disposition.forced),
        )
        for index, stream in enumerate(container.streams.subtitles)
    ]
    beside = [] if media.path is None else find_sidecars(media.path)
    return (
        *inside,
        *(
            SubtitleTrack(
                index=index,
                codec=_codec_of(path),
                kind=_kind_of(_codec_of(path)),
                language=path.stem.removeprefix(media.path.stem).strip(".") or None,
                forced=".forced" in path.name,
                file=path.name,
            )
            for index, path in enumerate(beside, start=len(inside))
            if media.path is not None
        ),
    )


def _kind_of(codec: str) -> str:
    return "text" if codec in _TEXT else "pictures" if codec in _PICTURES else "other"


def _codec_of(path: Path) -> str:
    return _SIDECARS.get(path.suffix.lower(), ("", "unknown"))[1]


def _choose(tracks: Sequence[SubtitleTrack], wanted: int | None, media: Media) -> SubtitleTrack:
    """The track that is meant, which holds text."""
    if wanted is None:
        chosen = best_track(tracks)
        if chosen is None:
            held = ", ".join(f"{track.name}: {track.kind}" for track in tracks)
            raise NoSubtitles(
                f"{media.name} has no subtitles as text" + (f" ({held})." if held else "."),
                hint="Put a file beside it that is called as it is: .srt, .vtt or .ass.",
            )
        return chosen
    if wanted >= len(tracks):
        raise NoSubtitles(
            f"{media.name} has no subtitles {wanted}; it has {len(tracks)}.",
            hint="They are counted from 0; `kinema probe` lists them.",
        )
    chosen = tracks[wanted]
    if chosen.kind != "text":
        what = "are pictures of words" if chosen.kind == "pictures" else "are not decoded here"
        raise NoSubtitles(
            f"Subtitles {wanted} of {media.name} {what} ({chosen.codec}), not text.",
            hint="Take another track, or a file of text beside the video.",
        )
    return chosen


def _read_file(path: Path, track: SubtitleTrack, access: Access) -> Subtitles:
    """The cues of a subtitle file, whose clock begins with the video."""
    demuxer = _SIDECARS.get(path.suffix.lower(), ("", ""))[0]
    if not demuxer:
        raise NoSubtitles(
            f"{path.name} is not a subtitle file of text that is read.",
            hint=f"Give {', '.join(end for end, (kind, _) in _SIDECARS.items() if kind)}.",
        )
    with open_local(path, access).range().open() as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise TooLarge(f"{path.name} is longer than {_MOST_BYTES:,} bytes.", hint="Is it text?")
    text, said = _decoded(data)
    media = Media(name=path.name, data=text.encode(), budget=access.budget)
    with _open_text(media, demuxer) as container:
        cues = _cues(container, container.streams.subtitles[0], media, zero=0.0)
    warnings = (f"{path.name} {said}.",) if said else ()
    return Subtitles(track=replace(track, file=path.name), cues=cues, warnings=warnings)


def _decoded(data: bytes) -> tuple[str, str]:
    """The words of a text file, and what is to be said about its encoding."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace"), ""
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        said = "is not in UTF-8; it was read as Western European (Windows-1252)"
        return data.decode("cp1252", errors="replace"), said


@contextmanager
def _open_text(media: Media, demuxer: str) -> Iterator[Any]:
    options = {"format_whitelist": demuxer, "protocol_whitelist": ""}
    try:
        with media.open() as file, av.open(file, format=demuxer, options=options) as container:
            yield container
    except (FFmpegError, IndexError, ValueError):
        raise DecodeFailed(
            f"{media.name} could not be read as subtitles.", hint="Is it what its name says?"
        ) from None


def _cues(container: Any, stream: Any, media: Media, *, zero: float) -> tuple[Cue, ...]:
    """Decode one track. FFmpeg gives text of any kind as events of SubStation Alpha."""
    rows: list[tuple[float, float, str]] = []
    for packet in media.metered(container.demux(stream)):
        if not packet.size or packet.pts is None or packet.is_discard:
            continue  # nothing is shown, or an edit list cuts it off
        try:
            texts = [_plain(rect.ass.decode("utf-8", "replace")) for rect in packet.decode()]
        except (FFmpegError, AttributeError):
            continue  # damaged words are left out
        begin = float(packet.pts * stream.time_base) - zero
        length = float((packet.duration or 0) * stream.time_base)
        text = "\n".join(filter(None, texts))
        if text and (begin >= 0 or begin + length > 0):
            rows.append((begin, length, text))
    rows.sort(key=lambda row: row[0])
    following = [begin for begin, _, _ in rows[1:]] + [float("inf")]
    return tuple(
        Cue(
            start_seconds=round(max(0.0, begin), 3),
            end_seconds=round(begin + (length or min(after - begin, _ANY_SECONDS)), 3),
            text=text,
        )
        for (begin, length, text), after in zip(rows, following, strict=True)
    )


def _plain(event: str) -> str:
    """The words of ``ReadOrder,Layer,Style,Name,MarginL,MarginR,MarginV,Effect,Text``."""
    text = event.split(",", 8)[-1]
    if _DRAWING.search(text):
        return ""
    text = _OVERRIDE.sub("", text).replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in text.split("\n"))
    return "\n".join(filter(None, lines))
