"""What is in a file, and which frames a sampling would take, measured and not believed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from kinema.plain import Plain
from kinema.types import FrameSampling, Source
from kinema.video.access import LOCAL, Access
from kinema.video.cache import cached_index
from kinema.video.container import open_container, video_stream
from kinema.video.cues import SubtitleTrack
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.picture import HDR_TRANSFERS, Converter, orientation_of
from kinema.video.playback import first_frame
from kinema.video.reading import DEFAULT_SAMPLING, timeline_of
from kinema.video.sampling import select
from kinema.video.source import open_media
from kinema.video.stills import is_image, read_image
from kinema.video.subtitles import list_subtitles
from kinema.video.timeline import Timeline
from kinema.video.tracks import VideoTrack, list_tracks

Hdr = Literal["pq", "hlg", "none"]
Reading = Literal["indexed", "front to back"]
# ITU-T H.273 code points.
_TRANSFERS = {1: "bt709", 4: "gamma22", 6: "smpte170m", 13: "srgb", 16: "pq", 18: "hlg"}
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "display-p3"}
_MATRICES = {0: "rgb", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
_RANGES = {1: "limited", 2: "full"}


@dataclass(frozen=True, kw_only=True)
class VideoInfo(Plain):
    """Facts about one file; counts, times and rates come from its packets."""

    source: str
    container: str
    codec: str
    pixel_format: str
    bit_depth: int
    coded_width: int
    coded_height: int
    width: int
    """Of the upright picture with square pixels."""
    height: int
    rotation_degrees: int = 0
    """Clockwise turn that was needed."""
    mirrored: bool = False
    sample_aspect_ratio: str = "1:1"
    interlaced: bool = False
    fps_mode: Literal["constant", "variable"] = "constant"
    fps: float | None
    """Average."""
    start_timecode: str | None = None
    """Of the first frame, as the file writes it: ``00:59:58;00``, drop-frame behind a semicolon."""
    duration_seconds: float
    num_frames: int
    reading: Reading = "indexed"
    """Whether packets tell where each frame is, or all frames before it must be decoded."""
    num_keyframes: int
    keyframe_seconds: tuple[float, ...]
    track: int = 0
    """Which of the video tracks is described."""
    tracks: tuple[VideoTrack, ...] = ()
    """All video tracks, as the header describes them."""
    subtitles: tuple[SubtitleTrack, ...] = ()
    """Inside the file, then in files beside it."""
    has_audio: bool = False
    audio_codec: str | None = None
    hdr: Hdr = "none"
    color_transfer: str
    color_primaries: str
    color_matrix: str
    color_range: str
    size_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class SamplingPlan(Plain):
    """The frames that a sampling would take."""

    indices: tuple[int, ...]
    seconds: tuple[float, ...]
    total_frames: int
    warnings: tuple[str, ...] = ()


def probe(source: Source, *, track: int | None = None, access: Access = LOCAL) -> VideoInfo:
    """Describe a video or image; one pass over its packets and one decoded frame.

    Args:
        source: see :func:`kinema.video.load_frames`.
        track: the video track to describe, from 0; None for the one that players show.
        access: what the source may reach.

    Raises:
        MediaError: the source cannot be used.
    """
    media = open_media(source, access, track=track)
    if is_image(media):
        return _probe_image(media)
    index = cached_index(media)
    with open_container(media) as container:
        stream = video_stream(container, media)
        facts = _container_facts(container, stream, media)
        return VideoInfo(
            source=media.name,
            size_bytes=media.size_bytes,
            **_clock_facts(index),
            **{**facts, "warnings": (*facts["warnings"], *_words_about(index))},
            **_stream_facts(stream),
            **_picture_facts(container, stream),
        )


def timeline(source: Source, *, track: int | None = None, access: Access = LOCAL) -> Timeline:
    """When each frame is shown; a still picture is one frame without length.

    Raises:
        MediaError: the source cannot be used.
    """
    media = open_media(source, access, track=track)
    if not is_image(media):
        return cached_index(media).timeline
    return timeline_of(read_image(media))


def plan(
    source: Source, sampling: FrameSampling = DEFAULT_SAMPLING, *, access: Access = LOCAL
) -> SamplingPlan:
    """Which frames a sampling takes, found without decoding.

    Raises:
        MediaError: the source cannot be used.
    """
    clock = timeline(source, track=sampling.track, access=access)
    selection = select(clock, sampling.or_default(DEFAULT_SAMPLING))
    return SamplingPlan(
        indices=tuple(selection.indices.tolist()),
        seconds=tuple(np.round(clock.seconds[selection.indices], 6).tolist()),
        total_frames=len(clock),
        warnings=selection.warnings,
    )


def _clock_facts(index: VideoIndex) -> dict[str, Any]:
    clock = index.timeline
    keyframe_seconds = np.round(clock.seconds[clock.keyframes], 6)
    return {
        "fps_mode": "constant" if clock.is_constant else "variable",
        "fps": None if clock.fps is None else round(clock.fps, 6),
        "duration_seconds": round(clock.duration_seconds, 6),
        "num_frames": len(clock),
        "reading": "front to back" if index.front_to_back else "indexed",
        "num_keyframes": len(keyframe_seconds),
        "keyframe_seconds": tuple(keyframe_seconds.tolist()),
    }


def _words_about(index: VideoIndex) -> tuple[str, ...]:
    if not index.reason:
        return index.warnings
    return (f"Decoded from front to back: {index.reason}.", *index.warnings)


def _container_facts(container: Any, stream: Any, media: Media) -> dict[str, Any]:
    audio = container.streams.audio
    codecs = [s.codec_context.name if s.codec_context else "unknown" for s in audio]
    tracks = list_tracks(container.streams.video)
    track = container.streams.video.index(stream)
    several = sum(not one.cover and one.num_pictures != 1 for one in tracks)
    choice = f"{several} video tracks; track {track} is read, as players show it."
    return {
        "start_timecode": _start_timecode(container, stream),
        "track": track,
        "tracks": tracks,
        "subtitles": list_subtitles(container, media),
        "warnings": (choice,) if several > 1 and media.track is None else (),
        "container": container.format.name,
        "has_audio": bool(codecs),
        "audio_codec": codecs[0] if codecs else None,
    }


def _start_timecode(container: Any, stream: Any) -> str | None:
    """MOV and MXF say it of a track, MXF, AVI and DV of the whole."""
    for metadata in (stream.metadata, container.metadata, *(s.metadata for s in container.streams)):
        if found := metadata.get("timecode"):
            return str(found)
    return None


def _stream_facts(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    transfer = int(context.color_trc)
    components = context.format.components if context.format else ()
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return {
        "codec": context.codec.canonical_name,
        "pixel_format": context.pix_fmt or "unknown",
        "bit_depth": max((c.bits for c in components), default=8),
        "coded_width": context.width,
        "coded_height": context.height,
        "sample_aspect_ratio": f"{aspect.numerator}:{aspect.denominator}",
        "hdr": HDR_TRANSFERS.get(transfer, "none"),
        "color_transfer": _TRANSFERS.get(transfer, "unspecified"),
        "color_primaries": _PRIMARIES.get(int(context.color_primaries), "unspecified"),
        "color_matrix": _MATRICES.get(int(context.colorspace), "unspecified"),
        "color_range": _RANGES.get(int(context.color_range), "unspecified"),
    }


def _picture_facts(container: Any, stream: Any) -> dict[str, Any]:
    frame = first_frame(container, stream)
    orientation = orientation_of(frame)
    aspect = float(stream.sample_aspect_ratio or 1)
    height, width = Converter(aspect, None).shape(frame)
    return {
        "width": width,
        "height": height,
        "rotation_degrees": orientation.rotation_degrees,
        "mirrored": orientation.is_mirrored,
        "interlaced": bool(frame.interlaced_frame),
    }


def _probe_image(media: Media) -> VideoInfo:
    frames = read_image(media)
    count, height, width, _ = frames.pixels.shape
    return VideoInfo(
        source=media.name,
        container="image",
        codec="image",
        pixel_format="rgb24",
        bit_depth=8,
        coded_width=width,
        coded_height=height,
        width=width,
        height=height,
        fps=frames.source_fps,
        duration_seconds=frames.duration_seconds or 0.0,
        num_frames=count,
        num_keyframes=count,
        keyframe_seconds=tuple(frames.seconds.tolist()),
        color_transfer="srgb",
        color_primaries="bt709",
        color_matrix="rgb",
        color_range="full",
        size_bytes=media.size_bytes,
    )
