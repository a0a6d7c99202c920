"""Settings that several commands take, spread into flags under one heading each."""

from typing import Annotated

from cyclopts import Group, Parameter

from kinema.engines import EngineSettings
from kinema.messages import SamplingParams
from kinema.tasks.imports import CheckpointParts
from kinema.types import FrameSampling

_FRAMES = Group("Which frames", sort_key=1)
_WORDS = Group("How words are picked", sort_key=2)
ENGINE_GROUP = Group("Where and how the model runs", sort_key=3)
_PARTS = Group("Checkpoints in parts", sort_key=4)

SamplingFlags = Annotated[FrameSampling, Parameter(name="*", group=_FRAMES)]
WordFlags = Annotated[SamplingParams, Parameter(name="*", group=_WORDS)]
EngineFlags = Annotated[EngineSettings, Parameter(name="*", group=ENGINE_GROUP)]
PartFlags = Annotated[CheckpointParts, Parameter(name="*", group=_PARTS)]
