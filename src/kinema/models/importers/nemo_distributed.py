"""Megatron's distributed checkpoints, the ``model_weights/`` of an archive, none of it run.

Every tensor is stored whole, in chunks that need not be those of the reader: as zarr arrays, one
folder a tensor (zarr.readthedocs.io, storage specification version 2), or as torch's distributed
checkpoint, whose index ``.metadata`` is a pickle that names the place of each chunk in a
``.distcp`` file. The pickle is read with stand-ins for everything that it names. Alike layers are
one tensor with the layer as its first axis, ``decoder.layers.mlp.linear_fc1.weight``.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinema.errors import ModelError, UnsafeModel
from kinema.models.importers.weights import Weights, read_tensor

FOLDER = "model_weights"
_INDEX = ".metadata"
_ARRAY = ".zarray"
_STACKED = re.compile(r"(.*\bdecoder\.layers\.)(?!\d+\.)(.+)")
_AGAIN = "Download it again."
_SAVE_AGAIN = "Save it again with NeMo, with ++model.dist_ckpt_format=torch_dist."
_FORMATS = {
    "bfloat16": torch.bfloat16,
    "<f2": torch.float16,
    "<f4": torch.float32,
    "<f8": torch.float64,
    "<i8": torch.int64,
    "<i4": torch.int32,
    "|u1": torch.uint8,
    "|i1": torch.int8,
}


def read_distributed(folder: Path) -> Weights:
    """All tensors of a distributed checkpoint, layers numbered.

    Raises:
        ModelError: it is in a form that is not known, or not whole.
        UnsafeModel: a chunk is a pickle of more than a tensor, or stands outside of the folder.
    """
    try:
        return dict(_numbered(_read(folder)))
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError,
            ValueError, OverflowError, RuntimeError, OSError) as error:  # fmt: skip
        raise ModelError(
            f"The archive's distributed checkpoint cannot be read: {error}.", hint=_AGAIN
        ) from error


def _read(folder: Path) -> Weights:
    if (folder / _INDEX).is_file():
        with (folder / _INDEX).open("rb") as file:
            return _filled(folder, _Index(file).load())
    if arrays := sorted(folder.glob(f"*/{_ARRAY}")):
        return {file.parent.name: _read_zarr(file.parent) for file in arrays}
    raise ModelError(
        f"The archive's {FOLDER}/ is a {_backend(folder)} checkpoint.", hint=_SAVE_AGAIN
    )


def _backend(folder: Path) -> str:
    file = folder / "metadata.json"
    said = json.loads(file.read_text()) if file.is_file() else {}
    return str(said.get("sharded_backend", "nameless"))


def _numbered(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Layers that stand in one tensor, each under its own name."""
    for name, tensor in weights.items():
        if stacked := _STACKED.fullmatch(name):
            for number, layer in enumerate(tensor):
                yield f"{stacked[1]}{number}.{stacked[2]}", layer
        else:
            yield name, tensor


# -- torch ---------------------------------------------------------------------------------------


class _StandIn:
    """For whatever an index names: it keeps what it is made of and filled with, and runs none."""

    arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any, **_: Any) -> _StandIn:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """A pickled list is filled one by one."""

    @property
    def numbers(self) -> list[int]:
        """Of a ``torch.Size``."""
        return [int(number) for number in self.arguments[0]]


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _StandIn


def _filled(folder: Path, index: Any) -> Weights:
    """The tensors of an index, each of its chunks."""
    tensors: Weights = {}
    missing = {
        name: math.prod(kept.size.numbers)
        for name, kept in index.state_dict_metadata.items()
        if hasattr(kept, "size")  # what has none is bytes, like Megatron's _extra_state
    }
    for key, place in index.storage_data.items():
        if key.fqn not in missing:
            continue
        chunk = _chunk(folder, place)
        if key.fqn not in tensors:
            shape = index.state_dict_metadata[key.fqn].size.numbers
            tensors[key.fqn] = torch.empty(shape, dtype=chunk.dtype)
        whole = tensors[key.fqn]
        offset = key.offset.numbers if key.offset is not None else [0] * whole.ndim
        # Megatron leaves the axis of the layer out of some chunks.
        shape = [1] * (whole.ndim - chunk.ndim) + list(chunk.shape)
        where = tuple(slice(o, o + s) for o, s in zip(offset, shape, strict=True))
        whole[where] = chunk.reshape(shape)
        missing[key.fqn] -= chunk.numel()
    if short := sorted(name for name, left in missing.items() if left):
        raise ModelError(f"The archive holds {short[0]} in part.", hint=_AGAIN)
    return tensors


def _chunk(folder: Path, place: Any) -> Tensor:
    file = folder / str(place.relative_path)
    if file.resolve().parent != folder.resolve():
        raise UnsafeModel(
            f"The archive's index names a file elsewhere, {place.relative_path}.",
            hint="Do not use this file.",
        )
    if getattr(place, "transform_descriptors", None):
        raise ModelError(
            f"The chunks of the archive are transformed by {place.transform_descriptors}.",
            hint=_SAVE_AGAIN,
        )
    with file.open("rb") as opened:
        opened.seek(int(place.offset))
        return read_tensor(io.BytesIO(opened.read(int(place.length))), name=file.name)


# -- zarr ----------------------------------------------------------------------------------------


def _read_zarr(folder: Path) -> Tensor:
    """One array of zarr's second format, not compressed, as Megatron writes it."""
    facts = json.loads((folder / _ARRAY).read_text())
    dtype = _FORMATS.get(facts["dtype"])
    refused = [name for name in ("compressor", "filters") if facts.get(name)]
    if dtype is None or refused or facts["zarr_format"] != 2 or facts.get("order", "C") != "C":
        what = f"{refused[0]} {facts[refused[0]]}" if refused else f"numbers {facts['dtype']}"
        raise ModelError(
            f"The array {folder.name} of the archive has {what}, which Megatron does not write.",
            hint=_SAVE_AGAIN,
        )
    shape, chunk = facts["shape"], facts["chunks"]
    whole = torch.empty(shape, dtype=dtype)
    separator = facts.get("dimension_separator", ".")
    for at in itertools.product(*(range(-(-s // c)) for s, c in zip(shape, chunk, strict=True))):
        file = folder / (separator.join(map(str, at)) or "0")
        where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, chunk, strict=True))
        whole[where] = _zarr_chunk(file, chunk, dtype)[tuple(slice(s) for s in whole[where].shape)]
    return whole


def _zarr_chunk(file: Path, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A chunk is always whole, also where the array ends within it."""
    wanted = math.prod(shape) * dtype.itemsize
    content = file.read_bytes() if file.is_file() else b""
    if len(content) != wanted:
        raise ModelError(
            f"The archive's {file.parent.name}/{file.name} has {len(content)} bytes of {wanted}.",
            hint=_AGAIN,
        )
    numbers = np.frombuffer(content, dtype=np.uint8).copy()
    return torch.from_numpy(numbers).view(dtype).reshape(list(shape))
