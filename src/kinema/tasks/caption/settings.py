"""Everything that decides the captions of a run, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kinema.captioning.prompts import DEFAULT_STYLE, Prompts
from kinema.captioning.records import Segment
from kinema.captioning.segments import SegmentOptions, read_ranges
from kinema.captioning.summary import SummaryBy
from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.messages import Ask, Conversation, SamplingParams, TextPart, VideoPart
from kinema.ranges import Ranges, require_ranges
from kinema.tasks.caption.plan import VideoPlan
from kinema.tasks.caption.speech import speech_model
from kinema.tasks.deciding import model_identity
from kinema.tasks.models import Model
from kinema.types import FrameSampling
from kinema.video.cues import parse_track

_DEFAULT_FPS = 1.0
_RANGES: Ranges = {
    "chapter_seconds": (lambda seconds: seconds > 0, "above 0"),
    "frame_size": (lambda pixels: pixels >= 1, "1 or more"),
}
_AGAIN_TEMPERATURE = 0.7
"""Of a second answer to the same question, where the first was greedy: it has to differ."""


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """What the model is asked about a segment, and what is made of its answers."""

    prompt: str | None = None
    """Question about each segment; {start} and {end} stand for its times."""
    summary_prompt: str | None = None
    """Question about numbered captions, which stand where {notes} is, or behind it."""
    title_prompt: str | None = None
    """Question about a summary, which stands where {summary} is, or behind it."""
    style: str = DEFAULT_STYLE
    """How captions read: detailed, brief, dense or plain."""
    language: str | None = None
    """Language of all text: English, German, Chinese …"""
    skip_similar: float | None = None
    """Leave out frames whose brightness differs by less than this (of 255) from the one before;
    first, middle and last stay."""
    transcribe: str | None = None
    """Speech model that hears what is said, for the model and the records: a folder of Whisper,
    or a name on a model hub."""
    subtitles: str | None = None
    """Show the model the subtitles of a segment, with their times: auto takes those that players
    show, inside the file or beside it; or a track's number (see `kinema probe`), or a file."""
    frame_size: int | None = None
    """Scale frames down to this many pixels on their shorter side."""
    summary_by: SummaryBy = "auto"
    """Who summarises: the model, or its captions' own sentences (extract)."""
    chapter_seconds: float = 120.0
    """About how long a chapter is."""

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        parse_track(self.subtitles)


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """A model and every setting that decides what is written about a video.

    Raises:
        UnknownName: there is no such style.
        UsageError: the model cannot do what is asked: free summaries, JSON, a style or a language.
    """

    model: Model
    engine: EngineSettings = EngineSettings()
    params: SamplingParams = SamplingParams()
    options: CaptionOptions = CaptionOptions()
    segments: SegmentOptions = SegmentOptions()
    sampling: FrameSampling = FrameSampling()
    """Which frames stand for a segment; where nothing is said, one a second."""
    decided: Mapping[str, Any] = field(default_factory=dict)
    """What of the job's own settings decides answers too; see ``JobSettings.decided``."""

    def __post_init__(self) -> None:
        family, options = self.model.family, self.options
        if not family.writes_freely:
            if options.language is not None or options.style != DEFAULT_STYLE:
                raise UsageError(
                    f"{family.title} has its own sentences, in English.",
                    hint="Leave --language and --style out, or use another model.",
                )
            if self.summarises_by_model:
                raise UsageError(
                    f"{family.title} answers questions about videos alone.",
                    hint="Use --summary-by extract, or another model.",
                )
            if self.params.json_schema is not None:
                raise UsageError(
                    f"{family.title} has its own sentences and writes no JSON.",
                    hint="Leave --schema out, or use another model.",
                )
        _ = self.prompts

    @cached_property
    def prompts(self) -> Prompts:
        """What the model is asked, in words that it understands."""
        return Prompts.chosen(
            prompt=self.options.prompt,
            summary_prompt=self.options.summary_prompt,
            title_prompt=self.options.title_prompt,
            style=self.options.style,
            language=self.options.language,
            subtitled=self.options.subtitles is not None,
            plain=not self.model.family.writes_freely,
        )

    @property
    def summarises_by_model(self) -> bool:
        """Whether the model writes summaries, or they are put together from captions."""
        by = self.options.summary_by
        return self.model.family.writes_freely if by == "auto" else by == "model"

    @property
    def frames(self) -> FrameSampling:
        """Which frames stand for a segment."""
        return self.sampling.or_default(FrameSampling(fps=_DEFAULT_FPS))

    @cached_property
    def _plan(self) -> dict[str, Any]:
        """How a video is cut and what is heard in it; a list of segments by what is in it."""
        listed, speech = self.segments.segment_list, self.options.transcribe
        subtitles = self.options.subtitles
        return {
            # Runs of before there were subtitles go on.
            **({} if subtitles is None else {"subtitles": subtitles}),
            **vars(self.segments),
            "segment_list": None if listed is None else read_ranges(listed),
            "sampling": self.frames.to_dict(),
            "transcribe": None if speech is None else speech_model(speech).fingerprint,
        }

    @cached_property
    def plan_fingerprint(self) -> str:
        """Of all that decides how a video is cut, and what is heard in it."""
        return fingerprint(self._plan)

    @cached_property
    def answer_fingerprint(self) -> str:
        """Of all beside frames and words that decides an answer of the model."""
        return fingerprint(self._answers)

    @cached_property
    def _answers(self) -> dict[str, Any]:
        return {
            **model_identity(self.model, self.engine),
            **self.decided,
            "params": self.params.to_dict(),
            "skip_similar": self.options.skip_similar,
            "frame_size": self.options.frame_size,
        }

    @cached_property
    def record(self) -> dict[str, Any]:
        """All that decides a record: its plan, the answers, and how they are put together."""
        return {
            **self._answers,
            "plan": self._plan,
            "prompts": self.prompts.to_dict(),
            "summary_by": self.options.summary_by,
            "chapter_seconds": self.options.chapter_seconds,
        }

    def question(
        self,
        plan: VideoPlan,
        segment: Segment,
        *,
        attempt: int = 1,
        speech: str = "",
        subtitles: str = "",
    ) -> Ask:
        """What the model is asked about one segment.

        Args:
            plan: of the video.
            segment: its frames are shown.
            attempt: from 2 on the answer is drawn at random, with this as the seed.
            speech: what is said meanwhile.
            subtitles: what is shown meanwhile, a line a cue.
        """
        text = self.prompts.describe(
            start=f"{segment.start_seconds:.1f} s",
            end=f"{segment.end_seconds:.1f} s",
            speech=speech,
            subtitles=subtitles,
        )
        params = self.params
        if attempt > 1:
            temperature = params.temperature or _AGAIN_TEMPERATURE
            params = replace(params, temperature=temperature, seed=attempt)
        video = VideoPart(
            plan.source,
            FrameSampling(at=segment.frame_seconds, track=self.sampling.track),
            size=self.options.frame_size,
            skip_similar=self.options.skip_similar,
        )
        about = {"content": plan.content, "frames": segment.frame_indices, "attempt": attempt}
        if self.sampling.track is not None:
            about["track"] = self.sampling.track
        return Ask(
            key=self._key(kind="describe", text=text, **about),
            conversation=Conversation.asked(video, TextPart(text)),
            params=params,
            fit=True,
        )

    def words(self, kind: str, text: str) -> Ask:
        """A question of words alone: for a summary or a title."""
        return Ask(
            key=self._key(kind=kind, text=text),
            conversation=Conversation.asked(TextPart(text)),
            params=replace(self.params, json_schema=None),
            fit=True,
        )

    def _key(self, **about: Any) -> str:
        return f"{self.answer_fingerprint}-{fingerprint(about)}"
