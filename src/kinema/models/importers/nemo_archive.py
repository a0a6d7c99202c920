"""``.nemo`` archives: a tar, or the folder it was unpacked to, read without unpickling objects."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from kinema.errors import ModelError, ModelNotFound, UnsafeModel
from kinema.models.importers.nemo_distributed import FOLDER, read_distributed
from kinema.models.importers.weights import Weights, read_weights

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"
_ARTIFACT = "nemo:"
"""Before the name of a member, in the configuration."""
_RANK_FOLDER = re.compile(r"(?:tp_rank_(?P<tp>\d+)_pp_rank_(?P<pp>\d+)|mp_rank_(?P<mp>\d+))")


@dataclass(frozen=True)
class NemoArchive:
    """What an archive holds."""

    config: dict[str, Any]
    """The ``model`` section that it was trained with."""
    ranks: dict[tuple[int, int], Weights]
    """State dicts by (pipeline rank, tensor rank); a distributed checkpoint is one whole."""
    pieces: bytes | None = None
    """The sentencepiece model that it carries."""


def read_nemo(path: Path) -> NemoArchive:
    """Read a ``.nemo`` file or folder.

    Raises:
        ModelNotFound: nothing is there.
        UnsafeModel: weights are pickled objects, or files would leave the folder.
        ModelError: it is no ``.nemo``.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ModelNotFound(f"There is no archive {path}.", hint="Check the path.")
    with tempfile.TemporaryDirectory(prefix="kinema-nemo-") as name:
        try:
            with tarfile.open(path) as tar:
                tar.extractall(name, filter="data")
        except tarfile.FilterError as error:
            raise UnsafeModel(
                f"{path.name} holds a member that would be written elsewhere.",
                hint="Do not use this file.",
            ) from error
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ModelError(
                f"{path.name} is no .nemo archive, or it is cut off.", hint="Download it again."
            ) from error
        return _read_folder(Path(name))


def write_nemo(path: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """Write a single-rank archive."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    text = yaml.safe_dump(dict(config)).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in ((CONFIG, text), (WEIGHTS, buffer.getvalue())):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _read_folder(folder: Path) -> NemoArchive:
    file = folder / CONFIG
    if not file.is_file():
        raise ModelError(
            f"{folder.name} holds no {CONFIG}.", hint="A .nemo holds it beside the weights."
        )
    config = yaml.safe_load(file.read_text())
    ranks = {rank: read_weights(file) for rank, file in _rank_files(folder)}
    if not ranks and (folder / FOLDER).is_dir():
        ranks = {(0, 0): read_distributed(folder / FOLDER)}
    if not ranks:
        raise ModelError("The archive holds no weights.", hint=f"It should hold {WEIGHTS}.")
    return NemoArchive(config, ranks, _pieces(folder, config))


def _pieces(folder: Path, config: Mapping[str, Any]) -> bytes | None:
    """What ``tokenizer.model: nemo:NAME`` refers to, or the file of training where it is there."""
    named = config.get("tokenizer") or {}
    name = str(named.get("model") or "")
    if named.get("library") != "sentencepiece" or not name:
        return None
    inside = folder / Path(name.removeprefix(_ARTIFACT)).name
    file = inside if name.startswith(_ARTIFACT) else Path(name)
    return file.read_bytes() if file.is_file() else None


def _rank_files(folder: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    if (folder / WEIGHTS).is_file():
        yield (0, 0), folder / WEIGHTS
        return
    for file in sorted(folder.glob(f"*_rank_*/{WEIGHTS}")):
        if found := _RANK_FOLDER.fullmatch(file.parent.name):
            tensor_rank = int(found["tp"] or found["mp"] or 0)
            yield (int(found["pp"] or 0), tensor_rank), file
