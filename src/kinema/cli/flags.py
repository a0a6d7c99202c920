"""Settings that several commands take, spread into flags under one heading each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Group, Parameter
from docstring_parser import parse_from_object

from kinema.engines.settings import EngineSettings, engines_with
from kinema.errors import UsageError
from kinema.messages import SamplingParams
from kinema.ranges import require_value
from kinema.structured import read_schema
from kinema.tasks.data.convert import ConvertOptions
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.site import JobSettings, Runner  # noqa: F401  the parser looks for it here
from kinema.types import FrameSampling
from kinema.video.decoder import DecoderName  # noqa: F401  the parser looks for it here

_FRAMES = Group("Which frames", sort_key=1)
_WORDS = Group("How words are picked", sort_key=2)
_ENGINE = Group("Where and how the model runs", sort_key=3)
_PARTS = Group("Checkpoints in parts", sort_key=4)

Converter = Callable[[Any, Sequence[Any]], Any]


def spread(
    settings: type[Any],
    *,
    renamed: Mapping[str, str | tuple[str, ...]] = {},
    converters: Mapping[str, Converter] = {},
    help_of: Callable[[str, str], str] = lambda name, text: text,
) -> Any:
    """A class of settings as flags read it, where a flag differs from its field.

    The result is read as if it were ``settings``, with the same fields and defaults, and makes
    values of ``settings`` itself, so that nothing behind the flags can tell them apart.

    Args:
        settings: a dataclass.
        renamed: flags of fields that are called otherwise, or by several names.
        converters: what makes the value of a field of a flag's words.
        help_of: the help of a flag, given the field's name and its documentation.
    """
    documented = {
        p.arg_name: p.description or ""
        for kind in reversed(settings.__mro__[:-1])
        for p in parse_from_object(kind).params
    }
    hints = get_type_hints(settings)
    annotations, defaults = {}, {}
    for f in fields(settings):
        parameter = Parameter(
            name=renamed.get(f.name),
            converter=converters.get(f.name),
            help=help_of(f.name, documented.get(f.name, "")),
        )
        annotations[f.name] = Annotated[hints[f.name], parameter]
        defaults[f.name] = (
            field(default=f.default)
            if f.default_factory is MISSING
            else field(default_factory=f.default_factory)
        )

    def make(_: type[Any], **values: Any) -> Any:
        return settings(**values)

    namespace = {
        "__annotations__": annotations,
        "__new__": make,
        "__module__": __name__,
        "__doc__": settings.__doc__,
        "settings": settings,
    }
    # Not a subclass: where a server has pydantic mark the settings as its own, the parser would
    # hand a marked class to pydantic.
    made = _Spread(settings.__name__, (), {**defaults, **namespace})
    return dataclass(frozen=True, kw_only=True)(made)


class _Spread(type):
    """A class of settings as flags read it; its values are those of ``settings``.

    The parser lets pydantic check what it has read, in processes that have imported pydantic.
    """

    settings: type[Any]

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.settings)


def _schema_in(_: Any, tokens: Sequence[Any]) -> str:
    """The schema in the file that a flag names."""
    path = Path(tokens[0].value)
    try:
        return read_schema(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(
            f"{path} cannot be read: {problem}.", hint="Give a file with a JSON Schema to --schema."
        ) from problem


def _schema_help(name: str, text: str) -> str:
    if name != "json_schema":
        return text
    return "File of a JSON Schema that the answer must follow (hf, vllm, openai)."


def _engines_help(name: str, text: str) -> str:
    """The documentation of a setting, and the engines that have it."""
    return f"{text.removesuffix('.')} ({', '.join(engines_with(name))})."


@dataclass(frozen=True, kw_only=True)
class JobRun(JobSettings):
    """How much is done at a time, where, and what is said about it."""

    limit: int | None = None
    """Take the first so many."""
    json: bool = False
    """Print one JSON record each."""
    quiet: Annotated[bool, Parameter(alias="-q")] = False
    """Print no progress and no results, only write files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_value(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")

    @property
    def settings(self) -> dict[str, Any]:
        """What the job itself is told of it, by the names of its fields."""
        return {f.name: getattr(self, f.name) for f in fields(JobSettings)}


SamplingFlags = Annotated[FrameSampling, Parameter(name="*", group=_FRAMES)]
JobFlags = Annotated[JobRun, Parameter(name="*")]
ModelName = Parameter(alias=("-m", "--model-name"))
"""Names of the flag that says which model answers; the last is Video-ChatGPT's."""
if TYPE_CHECKING:
    PartFlags = CheckpointParts
    ConvertFlags = ConvertOptions
    WordFlags = SamplingParams
    EngineFlags = EngineSettings
    CaptionEngineFlags = EngineSettings
else:
    # Behind the first names stand those of Video-ChatGPT's scripts.
    PartFlags = Annotated[
        spread(
            CheckpointParts,
            renamed={
                "projection": ("--projection", "--projection-path"),
                "vision_tower": ("--vision-tower", "--vision-tower-name"),
            },
        ),
        Parameter(name="*", group=_PARTS),
    ]
    ConvertFlags = Annotated[
        spread(ConvertOptions, renamed={"features": ("--features", "--clip-feature-path")}),
        Parameter(name="*"),
    ]
    WordFlags = Annotated[
        spread(
            SamplingParams,
            renamed={"json_schema": "--schema"},
            converters={"json_schema": _schema_in},
            help_of=_schema_help,
        ),
        Parameter(name="*", group=_WORDS),
    ]
    EngineFlags = Annotated[
        spread(EngineSettings, help_of=_engines_help), Parameter(name="*", group=_ENGINE)
    ]
    # --batch-size means frames of a caption there.
    CaptionEngineFlags = Annotated[
        spread(EngineSettings, help_of=_engines_help, renamed={"batch_size": "--requests"}),
        Parameter(name="*", group=_ENGINE),
    ]
