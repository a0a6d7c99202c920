"""Features as the pickles of Video-ChatGPT and its Breakfast fork, read without running them.

A pickle holds one numpy array: float16[100 + S, D] of spatio-temporal rows, float16[T, D] of class
tokens, or float16[T, L, D] of class tokens of every layer (file names ending in ``_all``).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import MediaNotFound, NotMedia, UnsafeModel
from kinema.models.pickled_arrays import ArraysOnly


def read_pickle(path: Path) -> NDArray[Any]:
    """The array of one pickle: float[N, D] or float[N, L, D].

    Raises:
        MediaNotFound: there is no such file.
        UnsafeModel: it holds anything but an array of numbers.
        NotMedia: it is damaged or no pickle.
    """
    if not path.is_file():
        raise MediaNotFound(f"There is no features file {path}.", hint="Check the path.")
    try:
        with path.open("rb") as file:
            found = ArraysOnly(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError,
            KeyError, OSError) as problem:  # fmt: skip
        raise NotMedia(
            f"{path.name} is no pickle, or ends early.", hint="Copy it again."
        ) from problem
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        raise UnsafeModel(
            f"{path.name} holds a {type(found).__name__} and no array of numbers.",
            hint="Give a features file of Video-ChatGPT.",
        )
    if found.ndim not in (2, 3):
        raise NotMedia(
            f"{path.name} holds an array of shape {list(found.shape)}.",
            hint="Features are [rows, width] or [frames, layers, width].",
        )
    return found
