"""Which model a name means, and the table of all that can be meant."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from kinema.engines import (
    ENGINES,
    Engine,
    EngineSettings,
    open_engine,
    world_size,
)
from kinema.engines.scheduler import Scheduler
from kinema.errors import MissingCapability, ModelNotFound, UnknownName
from kinema.families import (
    FAMILIES,
    Checkpoint,
    Family,
    as_trained,
    read_checkpoint,
    recognise,
)
from kinema.families.hub import download
from kinema.plugins import load_plugins
from kinema.tasks.imports import CheckpointParts, import_checkpoint

DEFAULT_MODEL = "spotter"
_FORMER_NAMES = {"tiny": "spotter"}
_log = logging.getLogger(__name__)
_OURS = "kinema_videolm"
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


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
    parts: CheckpointParts = field(default_factory=CheckpointParts)
    """What it was put together from, and its template where that was chosen."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's small files; builds or downloads it on first use."""
        folder = self.find_folder()
        if folder is None:
            return Checkpoint(self.name, None, {})
        found = read_checkpoint(self.name, folder, config_required=self.family.config_required)
        return self.parts.with_template(found)

    def open(self, settings: EngineSettings) -> Engine:
        """Load the weights."""
        if self.engine == "openai":
            settings = replace(settings, served_model=settings.served_model or self.name)
        return open_engine(
            self.engine, self.checkpoint.folder, family=self.family, settings=settings
        )

    def scheduler(
        self,
        settings: EngineSettings,
        *,
        patience_seconds: float = 0.02,
        on_open: Callable[[], None] = lambda: None,
    ) -> Scheduler:
        """This model behind a thread of its own, which loads the weights when they are needed.

        In the first of several processes of torchrun they are loaded now, because the others wait
        for it.

        Args:
            settings: how weights are loaded.
            patience_seconds: how long an idle engine waits for requests that are being read.
            on_open: told, in that thread, when loading begins.

        Raises:
            KinemaError: under torchrun, what hinders the loading.
        """
        scheduler = Scheduler(
            lambda: self.open(settings),
            family=self.family,
            checkpoint=self.checkpoint,
            patience_seconds=patience_seconds,
            on_open=on_open,
        )
        if world_size() > 1:
            try:
                scheduler.call(lambda engine: None).result()
            except BaseException:
                scheduler.close()
                raise
        return scheduler

    def follow(self, settings: EngineSettings) -> int:
        """Hold a slice of the model until the first process of torchrun is done.

        Returns:
            An exit status.

        Raises:
            MissingCapability: the engine does not split models over processes.
        """
        engine = self.open(settings)
        if not hasattr(engine, "follow"):
            raise MissingCapability(
                f"The engine {engine.name!r} does not split models over processes.",
                hint="--engine hf does.",
            )
        engine.follow()
        engine.close()
        return 0


def find_model(
    name: str = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    parts: CheckpointParts = CheckpointParts(),
) -> Model:
    """The model that ``name`` means: built-in, a folder, or a name on a model hub.

    ``family:FOLDER`` says the family where a folder cannot tell it. Checkpoints of makers whose
    format is not ours are converted once, with ``parts``. With the engine ``openai`` any name is
    taken as it is: the server knows it.

    Raises:
        UnknownName: no such model or engine.
        ModelNotFound: the folder is none, or the hub does not have it or cannot be reached.
        MissingCapability: this family does not run on that engine.
    """
    load_plugins()
    if engine == "openai":
        return Model(name, FAMILIES["remote"], engine, lambda: None)
    name = current_name(name)
    if name in built_in_names():
        family = FAMILIES[name]
        chosen = _choose_engine(family, engine)
        return Model(name, family.on(chosen), chosen, lambda: None)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in FAMILIES:
        family, path = FAMILIES[prefix], Path(rest).expanduser()
        if family.hub_files and _HUB_NAME.fullmatch(rest) and not path.exists():
            path = download(rest, patterns=family.hub_files)
        return _in_folder(name, path, family, engine, parts)
    path = Path(name).expanduser()
    if path.suffix == ".nemo" or (path / "model_config.yaml").is_file():
        return _in_folder(name, path, FAMILIES["neva"], engine, parts)
    if path.is_dir():
        makers = FAMILIES["video-chatgpt"] if _is_lightning(path) else None
        return _in_folder(name, path, makers, engine, parts)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFound(
            f"{name} is no model folder.", hint="A checkpoint is a folder with config.json in it."
        )
    if "/" not in name:
        raise UnknownName("model", name, built_in_names())
    return _in_folder(name, download(name), None, engine, parts)


def _own_folder(name: str, family: Family) -> Path:
    """The folder of a checkpoint in its makers' format: as typed, or what the hub has."""
    path = Path(name).expanduser()
    if path.exists() or not family.hub_files or not _HUB_NAME.fullmatch(name):
        return path
    return download(name, patterns=family.hub_files)


def _is_lightning(path: Path) -> bool:
    """Whether a folder is LLaVA's own, with the one layer that Video-ChatGPT begins with."""
    file = path / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    layers = config.get("mm_projector_type") or "linear"
    return "mm_vision_tower" in config and "vision_config" not in config and layers == "linear"


def current_name(name: str) -> str:
    """What the model that was called ``name`` is called now; said once where it is another."""
    if name in _FORMER_NAMES:
        _say_new_name(name)
    return _FORMER_NAMES.get(name, name)


@cache
def _say_new_name(name: str) -> None:
    now = _FORMER_NAMES[name]
    _log.warning("The built-in model is called %s now; %s means it too.", now, name)


def built_in_names() -> list[str]:
    """Models that need no files."""
    return [f.name for f in FAMILIES.values() if f.example == f.name]


def _in_folder(
    name: str, path: Path, family: Family | None, engine: str | None, parts: CheckpointParts
) -> Model:
    folder = path
    if family is not None and family.importer:
        config = path / "config.json"
        # A folder of our own architecture needs no import, whichever family trained it.
        is_ours = config.is_file() and json.loads(config.read_text()).get("model_type") == _OURS
        folder = path if is_ours else import_checkpoint(family, path, parts)
    required = family is None or family.config_required
    checkpoint = read_checkpoint(name, folder, config_required=required)
    family = as_trained(family or recognise(checkpoint), checkpoint)
    chosen = _choose_engine(family, engine)
    return Model(name, family.on(chosen), chosen, lambda: folder, parts)


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
            "engines": {
                name: f"needs {', '.join(missing)}" if missing else "installed"
                for name in family.engines
                for missing in [ENGINES[name].missing]
            },
        }
        for family in FAMILIES.values()
    ]
