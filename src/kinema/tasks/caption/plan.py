"""Looking at a video before the model does: what it is, where it is cut, what is said in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kinema.captioning.records import Segment, Word
from kinema.captioning.segments import SegmentOptions, cut
from kinema.errors import NoSubtitles
from kinema.plain import Plain
from kinema.tasks.caption.speech import speech_model
from kinema.types import FrameSampling
from kinema.video import Workers
from kinema.video.cues import AUTO, Cue
from kinema.video.source import open_media

_SHOTS_PATIENCE = 4.0
"""Times a video's length that finding its shots may take."""


@dataclass(frozen=True, kw_only=True)
class VideoPlan(Plain):
    """What is known about a video before a caption is made."""

    source: str
    content: str
    """Hash of the bytes."""
    duration_seconds: float
    segments: tuple[Segment, ...]
    info: Mapping[str, Any]
    words: tuple[Word, ...] | None = None
    subtitles: tuple[Cue, ...] | None = None
    warnings: tuple[str, ...] = ()


def look_at(
    source: str,
    content: str,
    options: SegmentOptions,
    sampling: FrameSampling,
    transcribe: str | None,
    subtitles: str | None,
    workers: Workers,
) -> VideoPlan:
    """Look at one video: what it is, where it is cut, what is said and written in it.

    Files are opened in processes that may be killed, so one that crashes its decoder takes nothing
    else down.

    Args:
        source: path, or ``archive.tar::member``.
        content: hash of its bytes.
        options: how it is cut.
        sampling: which frames stand for a segment.
        transcribe: name of a speech model; None hears nothing.
        subtitles: which of its subtitles are read; None reads none.
        workers: processes that read videos.

    Raises:
        MediaError: it cannot be used.
        ModelError: the speech model cannot be used.
    """
    track = sampling.track
    first = workers.load_frames(source, single="first", track=track)
    timeline = workers.timeline(source, track=track)
    find_shots = partial(
        workers.find_shots,
        source,
        track=track,
        deadline_seconds=max(workers.deadline_seconds, _SHOTS_PATIENCE * timeline.duration_seconds),
    )
    segments, notes = cut(timeline, options, sampling, find_shots=find_shots)
    info = replace(workers.probe(source, track=track), keyframe_seconds=()).to_dict()
    del info["source"], info["keyframe_seconds"]
    words = None
    if transcribe is not None and info["has_audio"]:
        words = speech_model(transcribe).words(
            source, timeline.duration_seconds, workers, track=track
        )
    elif transcribe is not None:
        notes = (*notes, "There is no sound to transcribe.")
    cues = None
    if subtitles is not None:
        try:
            read = workers.read_subtitles(source, track=subtitles, video_track=track)
            cues, notes = read.cues, (*notes, *read.warnings)
        except NoSubtitles as problem:
            if subtitles != AUTO:
                raise
            notes = (*notes, str(problem))
    return VideoPlan(
        source=source,
        content=content,
        duration_seconds=timeline.duration_seconds,
        segments=segments,
        info=info,
        words=words,
        subtitles=cues,
        warnings=tuple(dict.fromkeys((*first.warnings, *info["warnings"], *notes))),
    )


def content_of(source: str, workers: Workers) -> str:
    """Thirty-two hex digits of a source's bytes.

    Args:
        source: path, or ``archive.tar::member``.
        workers: not needed; bytes are read here, and not decoded.

    Raises:
        MediaError: it cannot be read.
    """
    with open_media(source).open() as file:
        digest = hashlib.blake2b(digest_size=16)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
