"""Pickles, read without running anything that is in them.

A pickle may name any function of any module. The VQGAN's reader knows the handful that arrays and
dicts are made of and refuses everything else by name; the reader of configurations makes none.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from kinema.errors import ModelError, UnsafeModel
from kinema.models.lwm.stored import InMemory
from kinema.models.pickled_arrays import ARRAYS, ArraysOnly


def _jax_array(make: Callable[..., Any], arguments: Any, state: Any, *_: Any) -> Any:
    """A pickled jax array is a pickled numpy array and facts about its placement."""
    array = make(*arguments)
    array.__setstate__(state)
    return array


class _Restricted(ArraysOnly):
    known: ClassVar[Mapping[tuple[str, str], Any]] = {
        **ARRAYS,
        ("collections", "OrderedDict"): OrderedDict,
        ("ml_dtypes", "bfloat16"): ml_dtypes.bfloat16,
        ("jax._src.array", "_reconstruct_array"): _jax_array,
        ("jax._src.device_array", "reconstruct_device_array"): _jax_array,
        ("jaxlib.xla_extension", "_reconstruct_array"): _jax_array,
        ("flax.core.frozen_dict", "FrozenDict"): dict,
    }
    holds = "a dict of arrays"


class _Inert:
    """Stands for whatever a pickle names: it can be made and filled, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """A pickled list is filled one by one."""


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _Inert


def read_plain(path: Path) -> Any:
    """Read the plain values of a pickle; objects in it are made inert and run nothing.

    Raises:
        ModelError: it is damaged or no pickle.
    """
    return _load(_Plain, path)


def _load(unpickler: type[pickle.Unpickler], path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return unpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError,
            KeyError) as error:  # fmt: skip
        raise ModelError(
            f"{path} is no pickle, or ends early: {error}.", hint="Copy or download it again."
        ) from None


def unpickle_arrays(path: Path) -> dict[str, InMemory]:
    """Read a pickled nested dict of arrays as one dict of ``a/b/c`` names.

    Raises:
        UnsafeModel: it holds anything but dicts and arrays.
        ModelError: it is damaged or no pickle.
    """
    arrays = dict(_leaves(_load(_Restricted, path), ""))
    return {name: InMemory(values) for name, values in arrays.items()}


def _leaves(tree: Any, name: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(tree, Mapping):
        parts = (_leaves(value, f"{name}/{key}".lstrip("/")) for key, value in tree.items())
        return [leaf for part in parts for leaf in part]
    if isinstance(tree, np.ndarray) and tree.dtype != object:
        return [(name, tree)]
    raise UnsafeModel(
        f"The pickle holds a {type(tree).__name__} at {name or 'its top'}, which is no array.",
        hint="Give the file called vqgan of an LWM checkpoint.",
    )
