"""Which model a name means, and the table of all that can be meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.engines import ENGINES, EngineSettings, Generates, open_engine
from kinema.errors import MissingCapability, ModelNotFound, UnknownName
from kinema.families import FAMILIES, Checkpoint, Family, read_checkpoint, recognise
from kinema.lazy import load

DEFAULT_MODEL = "tiny"


@dataclass(frozen=True)
class Model:
    """A model that was found and not loaded yet."""

    name: str
    """What the user typed."""
    family: Family
    engine: str
    """The engine that will run it."""
    find_folder: Callable[[], Path | None]
    """Makes or fetches the weights when they are not there yet."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's small files; builds or downloads it on first use."""
        folder = self.find_folder()
        if folder is None:
            return Checkpoint(self.name, None, {})
        return read_checkpoint(self.name, folder, config_required=self.family.config_required)

    def open(self, settings: EngineSettings) -> Generates:
        """Load the weights."""
        return open_engine(
            self.engine, self.checkpoint.folder, family=self.family, settings=settings
        )


def find_model(name: str = DEFAULT_MODEL, *, engine: str | None = None) -> Model:
    """The model that ``name`` means: built-in, a folder, or a name on a model hub.

    ``family:FOLDER`` says the family where a folder cannot tell it.

    Raises:
        UnknownName: no such model or engine.
        ModelNotFound: the folder is none, or the hub does not have it or cannot be reached.
        MissingCapability: this family does not run on that engine.
    """
    if name in FAMILIES and (FAMILIES[name].builder or not FAMILIES[name].model_types):
        return _built_in(name, engine)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in FAMILIES:
        return _in_folder(name, Path(rest).expanduser(), FAMILIES[prefix], engine)
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(name, path, None, engine)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFound(
            f"{name} is no model folder.", hint="A checkpoint is a folder with config.json in it."
        )
    if "/" not in name:
        raise UnknownName("model", name, _built_in_names())
    return _in_folder(name, load("kinema.families.hub:download")(name), None, engine)


def _built_in_names() -> list[str]:
    return [f.name for f in FAMILIES.values() if f.builder or f.example == f.name]


def _built_in(name: str, engine: str | None) -> Model:
    family = FAMILIES[name]
    builder = family.builder
    find = (lambda: Path(load(builder)())) if builder else (lambda: None)
    chosen = _choose_engine(family, engine)
    return Model(name, family.on(chosen), chosen, find)


def _in_folder(name: str, folder: Path, family: Family | None, engine: str | None) -> Model:
    required = family is None or family.config_required
    checkpoint = read_checkpoint(name, folder, config_required=required)
    family = family or recognise(checkpoint)
    chosen = _choose_engine(family, engine)
    return Model(name, family.on(chosen), chosen, lambda: folder)


def _choose_engine(family: Family, wanted: str | None) -> str:
    if wanted is None:
        return family.engines[0]
    if wanted not in ENGINES:
        raise UnknownName("engine", wanted, ENGINES)
    if wanted not in family.engines:
        raise MissingCapability(
            f"{family.title} does not run on the engine {wanted!r}.",
            hint=f"It runs on {', '.join(family.engines)}.",
        )
    return wanted


def model_table() -> list[dict[str, Any]]:
    """One row a family: what it takes, where it runs, whether that is installed."""
    return [
        {
            "family": family.name,
            "title": family.title,
            "example": family.example,
            "video": family.takes_video,
            "image": family.takes_image,
            "engines": {name: _state(name) for name in family.engines},
        }
        for family in FAMILIES.values()
    ]


def _state(engine: str) -> str:
    missing = ENGINES[engine].missing
    return f"needs {', '.join(missing)}" if missing else "installed"
