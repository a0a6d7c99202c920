"""Opening containers with FFmpeg; the place where its errors become ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import av
from av.error import FFmpegError

from kinema.errors import DecodeFailed, MediaError, NotMedia, NoVideoStream, Truncated
from kinema.video.demuxers import SOUND_ALONE, WHITELIST, why_refused
from kinema.video.media import Media
from kinema.video.mp4 import top_level_boxes
from kinema.video.stills import is_heif
from kinema.video.tracks import codec_of, main_track

_OPTIONS = {"format_whitelist": WHITELIST, "protocol_whitelist": "file"}
"""No playlist, concatenation, device or network: a file can only lead to itself."""
_CODECS = frozenset(
    (
        *("h264", "hevc", "vp8", "vp9", "av1", "vc1", "mpeg4", "mpeg1video", "mpeg2video"),
        *("mjpeg", "gif", "png", "apng", "webp", "jpeg2000", "rawvideo", "v210", "qtrle"),
        *("prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "dvvideo", "cinepak"),
        *("theora", "h263", "flv1", "vp6", "vp6f", "msmpeg4v2", "msmpeg4v3"),
        *("wmv1", "wmv2", "wmv3", "rv30", "rv40"),
    )
)
"""What people's files hold; rarely used decoders are where overflows are found."""
_LOOKED_AT_PACKETS = 2000
"""To tell a film from one picture, where the header does not."""


@contextmanager
def open_container(media: Media) -> Iterator[Any]:
    """An ``av.container.InputContainer``, closed on the way out.

    Raises:
        NotMedia: no demuxer knows the bytes.
        Truncated: an MP4 whose table of contents is missing.
        DecodeFailed: FFmpeg gave up while the block ran.
    """
    with translated(media), ExitStack() as stack:
        # FFmpeg reads a path by itself, which is quicker than through Python.
        path = f"file:{media.path.absolute()}" if media.path is not None else None
        file = path or stack.enter_context(media.open())
        yield stack.enter_context(av.open(file, metadata_errors="ignore", options=_OPTIONS))


@contextmanager
def translated(media: Media) -> Iterator[None]:
    """Turn FFmpeg's errors into ours; its texts hold pointers and stay out."""
    try:
        yield
    except MediaError:
        raise
    except (FFmpegError, ValueError, IndexError) as error:
        raise _as_media_error(media, error) from None


def _as_media_error(media: Media, error: Exception) -> MediaError:
    if media.head[4:8] == b"ftyp" and not _has_moov(media):
        return Truncated(
            f"{media.name} has no table of contents ('moov'): the recording was interrupted.",
            hint="Repair it with a remuxing tool such as untrunc.",
        )
    if isinstance(error, av.error.ArgumentError) and (demuxer := _refused_demuxer(media)):
        why = why_refused(demuxer)
        if why == SOUND_ALONE:
            return NoVideoStream(
                f"{media.name} holds only audio ({demuxer}).", hint="Give a video."
            )
        return NotMedia(
            f"{media.name} is of a kind that is not opened: {demuxer!r} {why}.",
            hint="Convert it to MP4 and try again.",
        )
    if isinstance(error, av.error.InvalidDataError):
        return NotMedia(
            f"{media.name} is no video that can be read.", hint="Play it in a player to check it."
        )
    return DecodeFailed(
        f"{media.name} could not be decoded ({type(error).__name__}).",
        hint="Convert it to MP4 and try again.",
    )


def _refused_demuxer(media: Media) -> str | None:
    """FFmpeg's name of the container that it recognised and was not allowed to open.

    Only its log tells, so the file is opened once more, as before, while somebody listens.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    with media.open() as file, av.logging.Capture() as lines:
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            av.open(file, metadata_errors="ignore", options=_OPTIONS).close()
        except (FFmpegError, ValueError):
            said = (name for _, name, text in lines if text.startswith("Format not on whitelist"))
            return next(said, None)
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
    return None


def _has_moov(media: Media) -> bool:
    """Whether an MP4 has its whole table of contents."""
    with media.open() as file:
        for kind, position, size in top_level_boxes(file, media.size_bytes):
            if kind == b"moov":
                return position + size <= media.size_bytes
    return False


def video_stream(container: Any, media: Media) -> Any:
    """The video track that was asked for, else the one that players show.

    Raises:
        NoVideoStream: there is none, or not so many.
    """
    streams = container.streams.video
    if media.track is not None:
        stream = _numbered(streams, media)
    else:
        stream = main_track(streams, _CODECS, partial(_count_first_packets, media))
    if stream is None:
        what = "only audio" if container.streams.audio else "no picture"
        raise NoVideoStream(
            f"{media.name} holds {what}.", hint="Give a file that has a video track."
        )
    # The main picture of a photo is marked as default; one of tiles has none that is a stream.
    is_main = bool(stream.disposition & av.stream.Disposition.default)
    if is_heif(media) and not is_main and media.track is None:
        raise DecodeFailed(
            f"{media.name} is a photo of several tiles, which FFmpeg does not put together.",
            hint="pip install 'kinema[heic]' reads it; or save it as JPEG.",
        )
    context = stream.codec_context
    name = codec_of(stream)
    if name not in _CODECS:
        raise DecodeFailed(
            f"{media.name} is encoded as {name}, which is not decoded here.",
            hint="Convert it to H.264.",
        )
    media.budget.check_pixels(media.name, context.height, context.width)
    # The decoder itself refuses what grows beyond the limit later on.
    context.options = {**context.options, "max_pixels": str(media.budget.pixels)}
    return stream


def _numbered(streams: Any, media: Media) -> Any:
    if media.track is None or media.track >= len(streams):
        count = f"{len(streams)} video track{'' if len(streams) == 1 else 's'}"
        raise NoVideoStream(
            f"{media.name} has no video track {media.track}; it has {count}.",
            hint="They are counted from 0; `kinema probe` lists them.",
        )
    return streams[media.track]


def _count_first_packets(media: Media) -> Mapping[int, int]:
    """Packets near the beginning by stream index, up to two of every video stream."""
    counts: Counter[int] = Counter()
    with open_container(media) as container:
        videos = container.streams.video
        for seen, packet in enumerate(media.metered(container.demux(videos))):
            if packet.size:
                counts[packet.stream.index] += 1
            if seen >= _LOOKED_AT_PACKETS or all(counts[s.index] > 1 for s in videos):
                break
    return counts


def ffmpeg_version() -> str:
    """The version of the FFmpeg inside PyAV, and of its decoding library."""
    major, minor, micro = av.library_versions["libavcodec"]
    return f"{av.ffmpeg_version_info}, libavcodec {major}.{minor}.{micro}"
