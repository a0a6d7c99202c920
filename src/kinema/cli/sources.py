"""YAML files as sources of flags: they say what neither the command line nor the environment does.

Their values become words of our flags, so that they are read, checked and refused as those are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import App, ArgumentCollection, Parameter
from cyclopts.config import Dict, Yaml

from kinema.cli.output import say
from kinema.engines import rank
from kinema.tasks.neva_yaml import NevaRequest

C = TypeVar("C", bound=Callable[..., Any])

_ATTRIBUTE = "config_sources"


class SettingsFile(Yaml):
    """Our own YAML: its keys are names of flags."""

    def _load_config(self, path: Path) -> dict[str, Any]:
        loaded = super()._load_config(path)
        return _two_levels(loaded) if isinstance(loaded, Mapping) else loaded


@dataclass(frozen=True, kw_only=True)
class HydraFlags:
    """Where NeVA's own scripts are told their YAML stands."""

    config_path: Annotated[Path | None, Parameter(alias="-cp")] = None
    """The folder of NeVA's YAML, as Hydra calls it."""
    config_name: Annotated[str | None, Parameter(alias="-cn")] = None
    """The name of NeVA's YAML in that folder or in this one, with or without .yaml."""

    @property
    def given(self) -> bool:
        """Whether a YAML is meant."""
        return self.config_path is not None or self.config_name is not None


@dataclass(frozen=True)
class NevaSource:
    """Reads the file that a flag names, with the overrides among the command's words."""

    flag: str
    read: Callable[[Path, Sequence[str]], NevaRequest]
    script_reads: str
    """The file that NeVA's script reads when its name is not given."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Add values to the arguments that have none; notes go to stderr."""
        path = self._file(arguments)
        if path is None:
            return
        words = [t.value for a in arguments if a.field_info.name == "words" for t in a.tokens]
        asked = self.read(path, [word for word in words if is_override(word)])
        for note in asked.notes if rank() == 0 else ():
            say(f"note: {note}")
        values = Dict(_two_levels(asked.settings), source=path.name, use_commands_as_keys=False)
        values(app, commands, arguments)

    def _file(self, arguments: ArgumentCollection) -> Path | None:
        names = (self.flag, "--config-path", "--config-name")
        file, folder, name = (
            tokens[-1].value if (tokens := arguments[flag].tokens) else None for flag in names
        )
        if file is not None or (folder is None and name is None):
            return None if file is None else Path(file)
        path = Path(folder or ".") / (name or self.script_reads)
        return path if path.suffix in (".yaml", ".yml") else path.with_name(f"{path.name}.yaml")


def _two_levels(values: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings inside of mappings as JSON: a flag has a name and at most one key."""
    return {name: _one_level(v) if isinstance(v, Mapping) else v for name, v in values.items()}


def _one_level(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(v) if isinstance(v, Mapping) else v for key, v in values.items()}


def is_override(word: str) -> bool:
    """Whether a word of the command line is Hydra's ``a.b=c``."""
    return "=" in word


def reads_neva(
    flag: str, read: Callable[[Path, Sequence[str]], NevaRequest], *, script_reads: str
) -> Callable[[C], C]:
    """A command whose ``flag`` names a YAML of NeVA, and whose ``words`` may override its keys.

    ``--config-path`` and ``--config-name`` of :class:`HydraFlags` name it as well.
    """

    def mark(command: C) -> C:
        setattr(command, _ATTRIBUTE, (NevaSource(flag, read, script_reads),))
        return command

    return mark


def sources_of(command: Callable[..., Any]) -> tuple[NevaSource, ...]:
    """Where a command has settings from, beside flags, environment and our own YAML."""
    found: tuple[NevaSource, ...] = getattr(command, _ATTRIBUTE, ())
    return found
