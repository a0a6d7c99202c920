"""What a conversation answers: the words, and the evidence they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinema.messages import Completion
from kinema.types import Features, Frames
from kinema.video.cues import Cue


@dataclass(frozen=True)
class Answer:
    """An answer and the evidence it stands on."""

    text: str
    model: str
    family: str
    engine: str
    prompt: str
    frames: tuple[Frames | Features, ...]
    """What the model saw, one entry a video or image, in the order it was given; what was taken
    away to make the request fit is not in it."""
    completion: Completion
    seconds: dict[str, float]
    """Where the time went: decode, load, generate and, when it was watched, first_token."""
    warnings: tuple[str, ...] = ()
    subtitles: tuple[Cue, ...] = ()
    """The cues that the model was shown, where subtitles were asked for."""

    def __str__(self) -> str:
        return self.text

    @property
    def reasoning(self) -> str:
        """What a reasoning model thought before it answered; empty for others."""
        return self.completion.reasoning

    def to_dict(self) -> dict[str, Any]:
        """One record, ready for JSON."""
        completion = self.completion
        record: dict[str, Any] = {
            "answer": self.text,
            "prompt": self.prompt,
            "model": self.model,
            "family": self.family,
            "engine": self.engine,
            "finish_reason": completion.finish_reason,
            "usage": vars(completion.usage).copy(),
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "frames": [frames.to_dict() for frames in self.frames],
            "warnings": list(self.warnings),
        }
        if self.subtitles:
            record["subtitles"] = [cue.to_dict() for cue in self.subtitles]
        if completion.reasoning:
            record["reasoning"] = completion.reasoning
        if completion.logprobs is not None:
            record["logprobs"] = [vars(token).copy() for token in completion.logprobs]
        return record
