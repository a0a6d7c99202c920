"""Everything that decides the captions of a run, in one value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kinema.captioning.prompts import Prompts
from kinema.captioning.records import Segment
from kinema.captioning.segments import SegmentOptions
from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.messages import Ask, Conversation, Message, Part, SamplingParams, TextPart, VideoPart
from kinema.tasks.caption.options import CaptionOptions
from kinema.tasks.caption.plan import VideoPlan, plan_settings
from kinema.tasks.deciding import model_identity
from kinema.tasks.models import Model
from kinema.types import FrameSampling

_AGAIN_TEMPERATURE = 0.7
"""Of a second answer to the same question, where the first was greedy: it has to differ."""


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """A model and every setting that decides what is written about a video.

    Raises:
        UsageError: the model cannot do what is asked: free summaries, JSON, a style or a language.
    """

    model: Model
    engine: EngineSettings
    params: SamplingParams
    options: CaptionOptions
    segments: SegmentOptions
    sampling: FrameSampling

    def __post_init__(self) -> None:
        writes_freely = self.model.family.writes_freely
        if self.summarises_by_model and not writes_freely:
            raise UsageError(
                f"{self.model.family.title} answers questions about videos alone.",
                hint="Use --summary-by extract, or another model.",
            )
        if self.params.json_schema is not None and not writes_freely:
            raise UsageError(
                f"{self.model.family.title} has its own sentences and writes no JSON.",
                hint="Leave --schema out, or use another model.",
            )
        self.options.prompts(self.model)

    @cached_property
    def prompts(self) -> Prompts:
        """What the model is asked."""
        return self.options.prompts(self.model)

    @property
    def summarises_by_model(self) -> bool:
        """Whether the model writes summaries, or they are put together from captions."""
        return self.options.by_model(self.model)

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return plan_settings(self.segments, self.sampling, self.options.transcribe)

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

    @cached_property
    def record_fingerprint(self) -> str:
        """Of :attr:`record`."""
        return fingerprint(self.record)

    def question(
        self, plan: VideoPlan, segment: Segment, *, attempt: int = 1, speech: str = ""
    ) -> Ask:
        """What the model is asked about one segment.

        Args:
            plan: of the video.
            segment: its frames are shown.
            attempt: from 2 on the answer is drawn at random, with this as the seed.
            speech: what is said meanwhile.
        """
        text = self.prompts.describe(
            start=f"{segment.start_seconds:.1f} s",
            end=f"{segment.end_seconds:.1f} s",
            speech=speech,
        )
        params = self.params
        if attempt > 1:
            temperature = params.temperature or _AGAIN_TEMPERATURE
            params = replace(params, temperature=temperature, seed=attempt)
        video = VideoPart(
            plan.source,
            FrameSampling(at=segment.frame_seconds),
            size=self.options.frame_size,
            skip_similar=self.options.skip_similar,
        )
        about = {"content": plan.content, "frames": segment.frame_indices, "attempt": attempt}
        return Ask(
            key=self._key(kind="describe", text=text, **about),
            conversation=_said(video, TextPart(text)),
            params=params,
            fit=True,
        )

    def words(self, kind: str, text: str) -> Ask:
        """A question of words alone: for a summary or a title."""
        return Ask(
            key=self._key(kind=kind, text=text),
            conversation=_said(TextPart(text)),
            params=replace(self.params, json_schema=None),
            fit=True,
        )

    def _key(self, **about: Any) -> str:
        return f"{self.answer_fingerprint}-{fingerprint(about)}"


def _said(*parts: Part) -> Conversation:
    return Conversation((Message("user", parts),))
