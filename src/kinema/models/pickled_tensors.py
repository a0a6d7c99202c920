"""Tensors that torch saved, read without torch and without running anything that is in the file.

The format before torch 1.6: five pickles, one behind the other (a magic number, the version, facts
about the machine, the object, the names of its storages), then each storage as an int64 count and
its raw numbers. Source: ``_legacy_load`` of torch/serialization.py.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kinema.errors import ModelError, UnsafeModel
from kinema.models.pickled_arrays import ArraysOnly

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


@dataclass(frozen=True)
class _Storage:
    """Raw numbers behind the pickles, known by name until they are read."""

    dtype: str
    name: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The tensor as an array of its own.

        Raises:
            ValueError: the view reaches beyond its storage.
        """
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        if self.offset < 0 or min((0, *self.strides)) < 0 or min((0, *self.shape)) < 0:
            raise ValueError("a negative size")
        if 0 not in self.shape and self.offset + sum(reach) >= len(numbers):
            raise ValueError("a tensor that is larger than its numbers")
        strides = [stride * numbers.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return view.copy(order="K")


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _TensorsOnly(ArraysOnly):
    """Loads a mapping of names to tensors, whose numbers come later in the file."""

    known: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "HalfStorage"): "<f2",
        ("torch", "LongStorage"): "<i8",
    }
    holds: ClassVar[str] = "named tensors"

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that ``pid`` names: ("storage", type, name, device, count, view)."""
        kind, dtype, name, _, count, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, str):
            raise pickle.UnpicklingError(f"a {kind} that is not a plain storage")
        return _Storage(dtype, str(name), int(count))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a state dictionary that torch saved before 1.6, by name.

    Raises:
        UnsafeModel: the file asks for anything but tensors.
        ModelError: it is damaged, or of another format.
    """
    try:
        with path.open("rb") as file:
            header = [_TensorsOnly(file).load() for _ in range(3)]
            if header[:2] != [_MAGIC, _VERSION]:
                raise ValueError("another format")
            tensors: Mapping[str, _Tensor] = _TensorsOnly(file).load()
            names: Sequence[str] = _TensorsOnly(file).load()
            storages = {tensor.storage.name: tensor.storage for tensor in tensors.values()}
            numbers = {name: _numbers(file, storages[name]) for name in names}
        return {name: tensor.of(numbers[tensor.storage.name]) for name, tensor in tensors.items()}
    except UnsafeModel:
        raise
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError,
            KeyError, OSError, OverflowError, MemoryError) as problem:  # fmt: skip
        raise ModelError(
            f"{path.name} holds no tensors that can be read: {problem}.",
            hint="Install the package that brings it again.",
        ) from problem


def _numbers(file: Any, storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.count:
        raise ValueError(f"{count} numbers where {storage.count} were announced")
    dtype = np.dtype(storage.dtype)
    raw = file.read(count * dtype.itemsize)
    if len(raw) != count * dtype.itemsize:
        raise EOFError("the file ends early")
    return np.frombuffer(raw, dtype)
