"""The steps from a plan to a record: ask about each segment, then make an outline."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kinema.captioning.prompts import Prompts
from kinema.captioning.quality import badness, flagged
from kinema.captioning.records import Caption, Segment, VideoRecord, Word
from kinema.captioning.result import Timings
from kinema.captioning.steps import Answer, Answers, Call, Steps, call_id
from kinema.captioning.summary import Summariser
from kinema.errors import ModelError
from kinema.tasks.caption.plan import VideoPlan


@dataclass(frozen=True)
class Described:
    """A record and what was measured on the way."""

    record: VideoRecord
    timings: Timings

    def to_dict(self) -> dict[str, Any]:
        """Both, ready for JSON."""
        return {"record": self.record.to_dict(), "timings": vars(self.timings).copy()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Described:
        """The value that :meth:`to_dict` wrote."""
        measured = values["timings"]
        timings = Timings(
            caption_seconds=tuple(measured["caption_seconds"]),
            turnaround_seconds=measured["turnaround_seconds"],
        )
        return Described(VideoRecord.from_dict(values["record"]), timings)


@dataclass(frozen=True, kw_only=True)
class Describer:
    """Makes records; knows questions and settings, no engine.

    Args:
        answers: fingerprint of all beside frames and words that decides an answer.
        settings: fingerprint of all that decides a record.
        structured: captions are JSON of a schema, and were held against it.
    """

    prompts: Prompts
    summariser: Summariser
    answers: str
    settings: str
    structured: bool = False

    def calls(self, plan: VideoPlan, *, attempt: int = 1) -> list[Call]:
        """One call for each segment."""
        return [self._call(plan, segment, attempt) for segment in plan.segments]

    def steps(self, plan: VideoPlan, *, again: frozenset[int] = frozenset()) -> Steps[Described]:
        """The record of a video.

        Args:
            again: segments to ask about twice; the answer with fewer flags is kept.

        Raises:
            ModelError: not one segment got an answer, or the summary failed.
        """
        began = time.perf_counter()
        first = self.calls(plan)
        second = {s.index: self._call(plan, s, 2) for s in plan.segments if s.index in again}
        answers = yield [*first, *second.values()]
        captions = []
        for segment, call in zip(plan.segments, first, strict=True):
            made = self._caption(plan, segment, call, answers)
            if segment.index in second:
                made = _better(made, self._caption(plan, segment, second[segment.index], answers))
            captions.append(made)
        _require_some(captions)
        outline = yield from self.summariser.outline(captions)
        seconds = tuple(answers[call.id].seconds for call in first)
        turnaround = round(time.perf_counter() - began, 6)
        timings = Timings(caption_seconds=seconds, turnaround_seconds=turnaround)
        return Described(self._record(plan, captions, outline), timings)

    def _call(self, plan: VideoPlan, segment: Segment, attempt: int) -> Call:
        text = self.prompts.describe(
            start=f"{segment.start_seconds:.1f} s",
            end=f"{segment.end_seconds:.1f} s",
            speech=speech_in(plan.words, segment) or "",
        )
        about = {"content": plan.content, "frames": segment.frame_indices, "attempt": attempt}
        return Call(
            id=call_id(self.answers, kind="describe", text=text, **about),
            kind="describe",
            text=text,
            segment=segment,
            attempt=attempt,
        )

    def _caption(self, plan: VideoPlan, segment: Segment, call: Call, answers: Answers) -> Caption:
        answer: Answer = answers[call.id]
        return Caption(
            index=segment.index,
            start_seconds=segment.start_seconds,
            end_seconds=segment.end_seconds,
            text=answer.text,
            frame_indices=answer.frame_indices,
            frame_seconds=answer.frame_seconds,
            skipped_frame_seconds=answer.skipped_frame_seconds,
            finish_reason=answer.finish_reason,
            usage=dict(answer.usage),
            attempt=call.attempt,
            fields=json.loads(answer.text) if self.structured and answer.text else None,
            speech=speech_in(plan.words, segment),
            warnings=answer.warnings,
            error=answer.error,
        )

    def _record(self, plan: VideoPlan, captions: Sequence[Caption], outline: Any) -> VideoRecord:
        broken = sum(caption.error is not None for caption in captions)
        said = f"{broken} of {len(captions)} segments have no caption." if broken else None
        return VideoRecord(
            source=plan.source,
            status="partial" if broken else "ok",
            content=plan.content,
            duration_seconds=plan.duration_seconds,
            title=outline.title,
            summary=outline.summary,
            chapters=outline.chapters,
            captions=tuple(captions),
            words=plan.words,
            info=plan.info,
            fingerprint=self.settings,
            warnings=plan.warnings,
            error=said,
        )


def speech_in(words: Sequence[Word] | None, segment: Segment) -> str | None:
    """What is said in a segment; a word belongs to the segment that its middle lies in."""
    if words is None:
        return None
    middles = ((w, (w.start_seconds + w.end_seconds) / 2) for w in words)
    inside = (w for w, at in middles if segment.start_seconds <= at < segment.end_seconds)
    return " ".join(word.text.strip() for word in inside)


def _require_some(captions: Sequence[Caption]) -> None:
    if captions and all(caption.error is not None for caption in captions):
        raise ModelError(f"No segment could be described: {captions[0].error}")


def _better(first: Caption, second: Caption) -> Caption:
    """The second where its flags weigh less, else the first."""
    if second.error is not None:
        return first

    def weight(caption: Caption) -> int:
        alone = VideoRecord(source="", status="ok", captions=(caption,))
        return badness(flagged(alone).captions[0])

    return second if weight(second) < weight(first) else first
