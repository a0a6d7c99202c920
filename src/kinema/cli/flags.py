"""Settings that several commands take, spread into flags under one heading each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.messages import SamplingParams
from kinema.structured import read_schema
from kinema.tasks.imports import CheckpointParts
from kinema.types import FrameSampling

_FRAMES = Group("Which frames", sort_key=1)
_WORDS = Group("How words are picked", sort_key=2)
ENGINE_GROUP = Group("Where and how the model runs", sort_key=3)
_PARTS = Group("Checkpoints in parts", sort_key=4)


def _schema_in(_: Any, tokens: Sequence[Any]) -> str:
    """The schema in the file that a flag names."""
    path = Path(tokens[0].value)
    try:
        return read_schema(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(
            f"{path} cannot be read: {problem}.", hint="Give a file with a JSON Schema to --schema."
        ) from problem


@dataclass(frozen=True, kw_only=True)
class WordChoice(SamplingParams):
    """Sampling parameters; the schema comes from a file here."""

    json_schema: Annotated[str | None, Parameter(name="--schema", converter=_schema_in)] = None
    """File of a JSON Schema that the answer must follow (hf, vllm, openai)."""


SamplingFlags = Annotated[FrameSampling, Parameter(name="*", group=_FRAMES)]
WordFlags = Annotated[WordChoice, Parameter(name="*", group=_WORDS)]
EngineFlags = Annotated[EngineSettings, Parameter(name="*", group=ENGINE_GROUP)]
PartFlags = Annotated[CheckpointParts, Parameter(name="*", group=_PARTS)]
