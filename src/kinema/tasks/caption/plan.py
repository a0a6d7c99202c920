"""Looking at a video before the model does: what it is, where it is cut, what is said in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from kinema.captioning.records import Segment, Word
from kinema.captioning.segments import SegmentOptions, cut, read_ranges
from kinema.config import fingerprint
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.speech import Speech
from kinema.types import FrameSampling
from kinema.video import Workers
from kinema.video.source import open_media

_SHOTS_PATIENCE = 4.0
"""Times a video's length that finding its shots may take."""


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """What is known about a video before a caption is made."""

    source: str
    content: str
    """Hash of the bytes."""
    duration_seconds: float
    segments: tuple[Segment, ...]
    info: Mapping[str, Any]
    words: tuple[Word, ...] | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the source, ready for JSON."""
        return {
            "content": self.content,
            "duration_seconds": self.duration_seconds,
            "segments": [segment.to_dict() for segment in self.segments],
            "info": dict(self.info),
            "words": None if self.words is None else [word.to_dict() for word in self.words],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, source: str, values: Mapping[str, Any]) -> VideoPlan:
        """The value that :meth:`to_dict` wrote, for a source with the same bytes."""
        words = values["words"]
        return cls(
            source=source,
            **dict(values)
            | {
                "segments": tuple(map(Segment.from_dict, values["segments"])),
                "words": None if words is None else tuple(Word(**word) for word in words),
                "warnings": tuple(values["warnings"]),
            },
        )


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans videos; a plan that was made for the same bytes is taken from the memo.

    Args:
        workers: processes that may be killed; files are opened in them alone, so one that crashes
            its decoder takes nothing else down.
        speech: hears what is said.
    """

    options: SegmentOptions
    sampling: FrameSampling
    memo: Memo
    workers: Workers
    speech: Speech | None = None

    def plan(self, source: str) -> VideoPlan:
        """Look at one video.

        Raises:
            MediaError: it cannot be used.
        """
        content = content_of(source)
        key = f"plan-{content}-{self.fingerprint}"
        if (known := self.memo.get(key)) is not None:
            return VideoPlan.from_dict(source, known)
        made = self._look(source, content)
        self.memo.put(key, made.to_dict())
        return made

    @cached_property
    def fingerprint(self) -> str:
        """Of all that decides a plan."""
        return plan_fingerprint(self.options, self.sampling, self.speech)

    def _look(self, source: str, content: str) -> VideoPlan:
        first = self.workers.load_frames(source, single="first")
        timeline = self.workers.timeline(source)
        find_shots = partial(
            self.workers.find_shots,
            source,
            deadline_seconds=max(
                self.workers.deadline_seconds, _SHOTS_PATIENCE * timeline.duration_seconds
            ),
        )
        segments, notes = cut(timeline, self.options, self.sampling, find_shots=find_shots)
        info = replace(self.workers.probe(source), keyframe_seconds=()).to_dict()
        del info["source"], info["keyframe_seconds"]
        words = self._words(source, timeline.duration_seconds) if info["has_audio"] else None
        if self.speech is not None and words is None:
            notes = (*notes, "There is no sound to transcribe.")
        return VideoPlan(
            source=source,
            content=content,
            duration_seconds=timeline.duration_seconds,
            segments=segments,
            info=info,
            words=words,
            warnings=tuple(dict.fromkeys((*first.warnings, *info["warnings"], *notes))),
        )

    def _words(self, source: str, duration_seconds: float) -> tuple[Word, ...] | None:
        if self.speech is None:
            return None
        return self.speech.words(source, duration_seconds, self.workers)


def plan_fingerprint(
    options: SegmentOptions, sampling: FrameSampling, speech: Speech | None = None
) -> str:
    """Of all that decides how a video is cut; a list counts by what is in it."""
    listed = options.segment_list
    return fingerprint(
        {
            "options": vars(options) | {"segment_list": None},
            "list": None if listed is None else read_ranges(listed),
            "sampling": sampling.to_dict(),
            "speech": None if speech is None else speech.fingerprint,
        }
    )


def content_of(source: str) -> str:
    """Thirty-two hex digits of a source's bytes.

    Raises:
        MediaError: it cannot be read.
    """
    with open_media(source).open() as file:
        digest = hashlib.blake2b(digest_size=16)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
