"""Features files: what a tower saw in one video, and everything needed to trust it later.

A file is safetensors with one tensor ``features`` float[N, L, D] and, in the header's metadata,
the JSON of a :class:`FeaturesHeader` under ``kinema``. Pickles of Video-ChatGPT are read where they
lie; they say nothing of themselves but their size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinema.errors import MediaNotFound, MediumRefused, NotMedia
from kinema.files import PICKLED_SUFFIX, stamp_of, whole_file
from kinema.models.videolm.pickles import read_pickle
from kinema.types import Features

FORMAT = 1
_PICKLED = "pickled"
"""The tower of features that do not say which made them; their width stands behind it."""


@dataclass(frozen=True, kw_only=True)
class FeaturesHeader:
    """How features came about."""

    tower: str
    """Kind and shape of the tower, see :func:`tower_name`."""
    select_layers: tuple[int, ...]
    select_feature: str
    post_layernorm: bool
    pooling: str
    num_frames: int
    seconds: tuple[float, ...] = ()
    """Presentation times of the frames."""
    sampling: dict[str, Any] | None = None
    """The sampling that chose them."""
    source: str = ""
    source_sha256: str = ""
    total_frames: int | None = None
    """Frames that the source presents."""
    duration_seconds: float | None = None
    variant: str = ""
    """The augmentation, empty for the original."""
    format: int = FORMAT

    @classmethod
    def for_config(cls, config: Any, *, num_frames: int, **details: Any) -> FeaturesHeader:
        """The header of features that a model with this ``VideoLMConfig`` makes."""
        return cls(
            tower=tower_name(config),
            select_layers=tuple(config.select_layers),
            select_feature=config.select_feature,
            post_layernorm=config.post_layernorm,
            pooling=config.pooling,
            num_frames=num_frames,
            **details,
        )

    def check(self, config: Any) -> None:
        """Refuse features that another tower, layer or pooling made.

        Raises:
            MediumRefused: names the first difference.
        """
        if self.is_pickled:
            self._check_size(config)
            return
        expected = FeaturesHeader.for_config(config, num_frames=self.num_frames)
        for name in ("tower", "select_layers", "select_feature", "post_layernorm", "pooling"):
            found, wanted = getattr(self, name), getattr(expected, name)
            if found != wanted:
                raise MediumRefused(
                    f"The features were made with {name} {found}; the model has {wanted}.",
                    hint="Extract the features again with this model.",
                )

    @property
    def is_pickled(self) -> bool:
        """Whether they come from a pickle, so that rows and width are all that is known."""
        return self.tower.startswith(f"{_PICKLED} ")

    def _check_size(self, config: Any) -> None:
        found = (len(self.select_layers), self.tower.removeprefix(f"{_PICKLED} "))
        wanted = (len(config.select_layers), str(config.vision_hidden_size))
        if found != wanted:
            raise MediumRefused(
                f"The pickle holds {found[0]} layers of width {found[1]}; the model has "
                f"{wanted[0]} of {wanted[1]}.",
                hint="Extract the features again with this model, or choose its layers.",
            )


def tower_name(config: Any) -> str:
    """Kind, width and grid of a tower: ``clip_vision_model 1024 16x16``."""
    rows, columns = config.vision_grid
    tower = config.vision_config
    kind = getattr(tower, "architecture", tower.model_type)
    return f"{kind} {config.vision_hidden_size} {rows}x{columns}"


def save_features(path: Path | str, features: Tensor, header: FeaturesHeader) -> None:
    """Write a features file in one step, so that no half-written one is ever read."""
    metadata = {"kinema": json.dumps(asdict(header))}
    with whole_file(Path(path)) as draft:
        save_file({"features": features.contiguous().cpu()}, draft, metadata=metadata)


def load_features(path: Path | str) -> tuple[Tensor, FeaturesHeader]:
    """Read a features file: float[N, L, D] and its header.

    Raises:
        MediaNotFound: there is no such file.
        NotMedia: it is no features file.
        UnsafeModel: a pickle holds anything but an array of numbers.
    """
    if Path(path).suffix.lower() == PICKLED_SUFFIX:
        rows = torch.from_numpy(read_pickle(Path(path)))
        rows = rows if rows.ndim == 3 else rows[:, None]
        return rows, _header_of(Path(path), tuple(rows.shape))
    with _features_file(path) as (file, header):
        return file.get_tensor("features"), header


def read_header(path: Path | str) -> FeaturesHeader:
    """As :func:`load_features`, the header alone."""
    if Path(path).suffix.lower() == PICKLED_SUFFIX and Path(path).is_file():
        return _pickled_header(Path(path), stamp_of(Path(path)))
    with _features_file(path) as (_, header):
        return header


@contextmanager
def _features_file(path: Path | str) -> Iterator[tuple[Any, FeaturesHeader]]:
    if not Path(path).is_file():
        raise MediaNotFound(f"There is no features file {path}.", hint="Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["kinema"])
            tuples = {name: tuple(values[name]) for name in ("select_layers", "seconds")}
            yield file, FeaturesHeader(**values | tuples)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise NotMedia(
            f"{path} is no features file of kinema.", hint="Write one with: kinema features"
        ) from error


def read_features(path: Path | str) -> Features:
    """Like :func:`load_features`, as the medium of a conversation."""
    values, header = load_features(path)
    return Features(
        values=values,
        num_frames=header.num_frames,
        seconds=header.seconds,
        source=header.source or str(path),
        made=asdict(header),
    )


@lru_cache(maxsize=65_536)
def _pickled_header(path: Path, stamp: str) -> FeaturesHeader:
    """Read once, since the size of a pickle is known when all of it has been read."""
    return load_features(path)[1]


def _header_of(path: Path, shape: tuple[int, ...]) -> FeaturesHeader:
    rows, layers, width = shape
    return FeaturesHeader(
        tower=f"{_PICKLED} {width}",
        select_layers=tuple(range(layers)),
        select_feature="",
        post_layernorm=False,
        pooling="",
        num_frames=rows,
        source=path.stem,
    )
