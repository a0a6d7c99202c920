"""All that decides the records of a run, as a value that travels to other processes."""

from __future__ import annotations

from dataclasses import dataclass

from kinema.captioning.exports import Load
from kinema.captioning.segments import SegmentOptions
from kinema.engines import EngineSettings
from kinema.messages import SamplingParams
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.options import CaptionOptions
from kinema.tasks.caption.plan import Planner, plan_fingerprint
from kinema.tasks.caption.session import Session
from kinema.tasks.caption.speech import Speech
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import Model, find_model
from kinema.types import FrameSampling
from kinema.video import Workers


@dataclass(frozen=True, kw_only=True)
class Work:
    """A model by name, and every setting."""

    model: str
    engine_name: str
    parts: CheckpointParts
    params: SamplingParams
    engine: EngineSettings
    options: CaptionOptions
    segments: SegmentOptions
    sampling: FrameSampling

    @property
    def speech(self) -> Speech | None:
        """The speech model, where one was named."""
        return None if self.options.transcribe is None else Speech(self.options.transcribe)

    def planner(self, memo: Memo, workers: Workers) -> Planner:
        """Looks at videos."""
        return Planner(
            options=self.segments,
            sampling=self.sampling,
            memo=memo,
            workers=workers,
            speech=self.speech,
        )

    def session(self, memo: Memo, *, load: Load, model: Model | None = None) -> Session:
        """The model at work; ``model`` is the one that is meant, where it was found already."""
        return Session(
            model=model or find_model(self.model, engine=self.engine_name, parts=self.parts),
            engine_settings=self.engine,
            params=self.params,
            options=self.options,
            memo=memo,
            plan=plan_fingerprint(self.segments, self.sampling, self.speech),
            load=load,
        )
