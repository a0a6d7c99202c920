"""Subtitles of a video as words that are put before a model, with their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinema.errors import NoSubtitles
from kinema.messages import Part, TextPart, VideoPart
from kinema.types import Frames, PictureFolder
from kinema.video.cues import AUTO, Cue, Subtitles, as_lines, cues_between, require_one_video
from kinema.video.subtitles import read_subtitles


@dataclass(frozen=True)
class ShownSubtitles:
    """The cues of the part of a video that a model sees."""

    cues: tuple[Cue, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What the model reads of them; a user's words, so that no control token is one."""
        return f"The subtitles of the video are:\n{as_lines(self.cues)}\n"


def subtitles_of(part: VideoPart, subtitles: str, read: Callable[..., Subtitles]) -> ShownSubtitles:
    """The subtitles of the range of a video that is asked about.

    Args:
        part: a video that is not decoded.
        subtitles: auto, a track's number, or a file.
        read: ``read_subtitles`` of :mod:`kinema.video.subtitles` or of worker processes.

    Raises:
        NoSubtitles: there are not those that were asked for; ``auto`` says so in the warnings.
        MediaError: the source cannot be used.
    """
    if not isinstance(part.source, str | Path | bytes | PictureFolder):
        return ShownSubtitles(warnings=("Only videos that are files have subtitles.",))
    try:
        found = read(part.source, track=subtitles, video_track=part.sampling.track)
    except NoSubtitles as problem:
        if subtitles != AUTO:
            raise
        return ShownSubtitles(warnings=(str(problem),))
    sampling = part.sampling
    cues = cues_between(found.cues, sampling.start_seconds, sampling.end_seconds)
    return ShownSubtitles(cues, found.warnings)


def _warned(part: Part, warnings: Sequence[str]) -> Part:
    """A decoded video that says these sentences too."""
    if not (isinstance(part, VideoPart) and isinstance(part.source, Frames)):
        return part
    frames = part.source
    for warning in warnings:
        frames = frames.warned(warning)
    return replace(part, source=frames)


def with_subtitles(
    given: Sequence[Part],
    decoded: Sequence[Part],
    subtitles: str | None,
) -> tuple[list[Part], tuple[Cue, ...]]:
    """Decoded parts with the subtitles of each video behind it, and all cues of these.

    Args:
        given: the same parts before they were decoded; what was decoded earlier stays as it is.
        decoded: the parts as a model sees them.
        subtitles: auto, a track's number, or a file; None for none.

    Raises:
        UsageError: one file, and several videos.
        MediaError: as :func:`subtitles_of`.
    """
    if subtitles is None:
        return list(decoded), ()
    new = {
        place: part
        for place, part in enumerate(given)
        if isinstance(part, VideoPart) and not isinstance(part.source, Frames)
    }
    require_one_video(subtitles, len(new))
    parts: list[Part] = []
    cues: tuple[Cue, ...] = ()
    for place, part in enumerate(decoded):
        if place not in new:
            parts.append(part)
            continue
        shown = subtitles_of(new[place], subtitles, read_subtitles)
        parts.append(_warned(part, shown.warnings))
        if shown.cues:
            parts.append(TextPart(shown.text))
            cues += shown.cues
    return parts, cues
