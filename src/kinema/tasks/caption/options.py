"""What decides the text of a caption, beside the model and its sampling parameters."""

from __future__ import annotations

from dataclasses import dataclass

from kinema.captioning.prompts import DEFAULT_STYLE, Prompts
from kinema.captioning.summary import SummaryBy
from kinema.errors import UsageError
from kinema.tasks.models import Model

DEFAULT_FPS = 1.0


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
    frame_size: int | None = None
    """Scale frames down to this many pixels on their shorter side."""
    summary_by: SummaryBy = "auto"
    """Who summarises: the model, or its captions' own sentences (extract)."""
    chapter_seconds: float = 120.0
    """About how long a chapter is."""

    def __post_init__(self) -> None:
        if self.chapter_seconds <= 0:
            raise UsageError("--chapter-seconds must be above 0.", hint="Try 120.")
        if self.frame_size is not None and self.frame_size < 1:
            raise UsageError("--frame-size must be 1 or more.", hint="Try 448.")

    def prompts(self, model: Model) -> Prompts:
        """The questions, in words that the model understands.

        Raises:
            UnknownName: no such style.
            UsageError: the model has one style and one language.
        """
        has_own = not model.family.writes_freely
        if has_own and (self.language is not None or self.style != DEFAULT_STYLE):
            raise UsageError(
                f"{model.family.title} has its own sentences, in English.",
                hint="Leave --language and --style out, or use another model.",
            )
        return Prompts.chosen(
            prompt=self.prompt,
            summary_prompt=self.summary_prompt,
            title_prompt=self.title_prompt,
            style=self.style,
            language=self.language,
            plain=has_own,
        )

    def by_model(self, model: Model) -> bool:
        """Whether the model writes summaries, or they are put together from captions."""
        if self.summary_by == "auto":
            return model.family.writes_freely
        return self.summary_by == "model"
