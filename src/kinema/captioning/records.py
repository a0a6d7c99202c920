"""What is known about one video after it was described: the one source of every export.

All times are presentation seconds from the start of the video; ranges are half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kinema.plain import Plain
from kinema.video.cues import Cue

Status = Literal["ok", "partial", "failed", "skipped", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class Segment(Plain):
    """A stretch of a video that gets one caption, and the frames that are shown to the model."""

    index: int
    start_seconds: float
    end_seconds: float
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    opens_with: str = "window"
    """What begins it: window, start, cut, fade, split or list."""


@dataclass(frozen=True, kw_only=True)
class Word(Plain):
    """One spoken word."""

    text: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True)
class Caption(Plain):
    """What the model said about one segment, and which frames it saw."""

    index: int
    start_seconds: float
    end_seconds: float
    text: str
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    skipped_frame_seconds: tuple[float, ...] = ()
    """Frames left out because they look like the one before."""
    finish_reason: str = "stop"
    usage: Mapping[str, int] | None = None
    attempt: int = 1
    """1, or 2 where a second answer was better."""
    fields: Any = None
    """The answer as a JSON value, where a schema was given."""
    speech: str | None = None
    """What is said meanwhile, where speech was transcribed."""
    subtitles: str | None = None
    """The subtitles that are shown meanwhile, a line a cue with its times, where they were asked
    for."""
    warnings: tuple[str, ...] = ()
    damaged_packets: int = 0
    """Packets that the decoder refused on the way to its frames."""
    damaged_frames: int = 0
    """Frames that are marked as corrupt, or could not be decoded."""
    error: str | None = None
    """Why there is no caption; ``text`` is empty then."""
    flags: tuple[str, ...] = ()
    """What looks wrong; see :mod:`kinema.captioning.quality`."""


@dataclass(frozen=True, kw_only=True)
class Sentence(Plain):
    """One sentence of a summary and the captions that it stands on."""

    text: str
    sources: tuple[int, ...]
    """Indices of captions."""
    support: float
    """Share of the sentence's telling words that its sources say too, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Chapter(Plain):
    """Neighbouring segments that belong together."""

    index: int
    start_seconds: float
    end_seconds: float
    title: str
    summary: tuple[Sentence, ...]
    captions: tuple[int, ...]
    """Indices of its captions."""


@dataclass(frozen=True, kw_only=True)
class VideoRecord(Plain):
    """Everything that was found out about one video."""

    source: str
    status: Status
    content: str = ""
    """Hash of the bytes."""
    duration_seconds: float = 0.0
    title: str = ""
    summary: tuple[Sentence, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    captions: tuple[Caption, ...] = ()
    words: tuple[Word, ...] | None = None
    """Speech; None where it was not asked for or there is no sound."""
    subtitles: tuple[Cue, ...] | None = None
    """Its subtitles; None where they were not asked for or there are none."""
    info: Mapping[str, Any] | None = None
    """What the file is: codec, size, rate, rotation, HDR, sound."""
    fingerprint: str = ""
    """Of every setting that decides the text."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None

    @property
    def damage(self) -> dict[str, int]:
        """Damaged packets and frames of all captions, and captions that have any or no text.

        What two captions need is counted for both.
        """
        harmed = [c for c in self.captions if c.error or c.damaged_packets or c.damaged_frames]
        return {
            "damaged_segments": len(harmed),
            "damaged_packets": sum(caption.damaged_packets for caption in harmed),
            "damaged_frames": sum(caption.damaged_frames for caption in harmed),
        }

    @property
    def summary_text(self) -> str:
        """The summary as one paragraph."""
        return " ".join(sentence.text for sentence in self.summary)


def sections(record: VideoRecord) -> list[tuple[Chapter | None, list[Caption]]]:
    """Every caption under the chapter in whose time it is, those that no chapter stands on too.

    Captions before the first chapter are shown in it; without chapters there is one section.
    """
    chapters: list[Chapter | None] = list(record.chapters) or [None]
    found: list[tuple[Chapter | None, list[Caption]]] = [(chapter, []) for chapter in chapters]
    for caption in (caption for caption in record.captions if caption.error is None):
        begun = [c for c in record.chapters if c.start_seconds <= caption.start_seconds]
        found[max(0, len(begun) - 1)][1].append(caption)
    return found
