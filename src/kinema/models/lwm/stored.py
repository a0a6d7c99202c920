"""Tensors that still lie in a file: name, type, shape, and where their bytes are.

Nothing is read before a slice is asked for, and then only that slice. So a device gets its shard
of a 13.6 GB checkpoint without the whole ever being in memory.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Union

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from kinema.errors import ModelError
from kinema.files import whole_file

Index = tuple[slice, ...]
Tensor = Union["StoredTensor", "OneLayer", "Stack", "InMemory"]
"""An array whose ``read(index, dtype)`` gives the values of a slice."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, whole or in consecutive chunks of its flattened values."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """First byte and number of bytes of each chunk."""

    def read(self, index: Index, dtype: DTypeLike) -> NDArray[Any]:
        """Read one slice; never more of the file than it touches, row by row of the first axis."""
        if not self.shape:
            value: NDArray[Any] = self._flat(0, 1).astype(dtype).reshape(())
            return value
        index = (*index, *(slice(None),) * (len(self.shape) - len(index)))
        if len(self.spans) == 1:
            whole = self._chunks[0].reshape(self.shape)
            return np.ascontiguousarray(whole[index].astype(dtype, copy=False))
        rows, inner = range(*index[0].indices(self.shape[0])), index[1:]
        first = self._row(rows[0])[inner]
        result = np.empty((len(rows), *first.shape), dtype)
        for at, row in enumerate(rows):
            result[at] = self._row(row)[inner]
        return result

    def _row(self, row: int) -> NDArray[Any]:
        size = math.prod(self.shape[1:])
        return self._flat(row * size, (row + 1) * size).reshape(self.shape[1:])

    def _flat(self, start: int, stop: int) -> NDArray[Any]:
        """Flattened values; copied only where they lie across two chunks."""
        pieces, begin = [], 0
        for chunk in self._chunks:
            low, high = max(start - begin, 0), min(stop - begin, len(chunk))
            if low < high:
                pieces.append(chunk[low:high])
            begin += len(chunk)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @cached_property
    def _chunks(self) -> list[NDArray[Any]]:
        data = np.memmap(self.path, np.uint8, mode="r")
        return [data[at : at + size].view(self.dtype) for at, size in self.spans]


@dataclass(frozen=True)
class OneLayer:
    """One layer of a stacked tensor."""

    stacked: Tensor
    layer: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the layer axis."""
        return self.stacked.shape[1:]

    def read(self, index: Index, dtype: DTypeLike) -> NDArray[Any]:
        """The slice of this layer."""
        (values,) = self.stacked.read((slice(self.layer, self.layer + 1), *index), dtype)
        return np.asarray(values)


@dataclass(frozen=True)
class Stack:
    """Single layers as one tensor with a leading layer axis."""

    layers: Sequence[Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """With the layer axis."""
        return (len(self.layers), *self.layers[0].shape)

    def read(self, index: Index, dtype: DTypeLike) -> NDArray[Any]:
        """The slice of every layer asked for."""
        first, *rest = index or (slice(None),)
        return np.stack([layer.read(tuple(rest), dtype) for layer in self.layers[first]])


@dataclass(frozen=True, eq=False)
class InMemory:
    """A tensor that is already here."""

    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the values."""
        return self.values.dtype

    def read(self, index: Index, dtype: DTypeLike) -> NDArray[Any]:
        """The slice, converted."""
        return np.asarray(self.values[index]).astype(dtype, copy=False)


def dtype_named(name: str) -> np.dtype[Any]:
    """``bfloat16``, ``float32``, ... as numpy knows them with ml_dtypes' help."""
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


_SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
}  # fmt: skip
_CODES = {name: code for code, name in _SAFETENSORS.items()}


def index_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a safetensors file lies.

    Raises:
        ModelError: the header cannot be read, or the file is shorter than it says.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (struct.error, ValueError, OverflowError, MemoryError):
        raise ModelError(f"{path} is no safetensors file.", hint="Convert it again.") from None
    header.pop("__metadata__", None)
    start, size = 8 + length, path.stat().st_size
    found = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        check_within(path, name, last, size)
        dtype = dtype_named(_SAFETENSORS[entry["dtype"]])
        found[name] = StoredTensor(path, dtype, tuple(entry["shape"]), ((first, last - first),))
    return found


def check_within(path: Path, tensor: str, last: int, size: int) -> None:
    """Refuse a file that ends inside a tensor.

    Raises:
        ModelError: names the tensor, the byte it needs and the byte where the file ends.
    """
    if last > size:
        raise ModelError(
            f"{path} ends at byte {size}, inside {tensor}, which reaches to byte {last}.",
            hint="The file is incomplete: copy or download it again.",
        )


def write_safetensors(
    path: Path, tensors: Mapping[str, StoredTensor | InMemory], metadata: Mapping[str, str]
) -> None:
    """Write tensors one row of bytes at a time; the file appears when it is complete."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in tensors.items():
        size = math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {
            "dtype": _CODES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as draft, draft.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            rows = [(slice(i, i + 1),) for i in range(tensor.shape[0])] if tensor.shape else [()]
            for index in rows:
                file.write(tensor.read(index, tensor.dtype).tobytes())
