"""What is asked, what was answered: the values that everything in here works on.

A record holds all that scoring needs, so that scores can be made again without the data set, the
model or a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kinema.evaluation.normalise import answer_of
from kinema.plain import Plain

Task = Literal["choice", "text", "count", "caption", "span", "segments"]
"""What an item wants: an option, a short text, a number, a caption, a time range, segments."""


@dataclass(frozen=True, kw_only=True)
class Item(Plain):
    """One question of a benchmark."""

    id: str
    task: Task
    question: str
    """The question itself; presets put instructions and options around it."""
    video: str = ""
    """File, relative to the benchmark's folder; empty when the folder has none for it."""
    video_id: str = ""
    """What the benchmark calls the video; items that share it are not independent."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    options: tuple[str, ...] = ()
    lettered: bool = True
    """The options are shown behind letters."""
    answer: int | None = None
    """Position of the right option; None when it is hidden."""
    references: tuple[str, ...] = ()
    """Accepted answers; of spans ``start end``, of segments their lines."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Category by kind of category, for tables and macro averages."""
    subtitles: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What one task needs: ``num_frames``, ``fps``, ``vocabulary``, ``background``."""

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, ready for JSON."""
        given = {name: v for name, v in super().to_dict().items() if v not in (None, "", [], {})}
        return given | {"lettered": self.lettered}


@dataclass(frozen=True, kw_only=True)
class Prediction(Plain):
    """What a model made of an item, with everything that decided it."""

    reply: str | None
    """The raw text; None when there is none."""
    error: str = ""
    """Why there is no reply: a missing video, a decode error, an engine's error."""
    error_code: str = ""
    prompt: str = ""
    """What was asked, instructions and options included."""
    system: str = ""
    """The preset's system prompt; empty where the model family's own was taken."""
    frames: tuple[Mapping[str, Any], ...] = ()
    """Source, indices and times of the frames that the model saw."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The rule that took them."""
    option_scores: tuple[float, ...] | None = None
    """Log-probability of each option's letter, when options were ranked."""
    finish_reason: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: str = ""
    revision: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    """How words were picked."""
    reasoning: str = ""
    """What a reasoning model thought before it replied."""

    @property
    def answer(self) -> str:
        """What is read and judged: the reply without reasoning and tags, empty without a reply."""
        return answer_of(self.reply or "")


@dataclass(frozen=True)
class Record(Plain):
    """One line of ``predictions.jsonl``."""

    item: Item
    prediction: Prediction

    @property
    def answered(self) -> bool:
        """True when the model replied at all."""
        return self.prediction.reply is not None or self.prediction.option_scores is not None

    @property
    def cluster(self) -> str:
        """Records of one cluster are not independent of each other."""
        return self.item.video_id or self.item.video or self.item.id
