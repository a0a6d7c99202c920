"""One thread for NumPy's matrix products while a small network runs.

OpenBLAS, which NumPy's wheels carry, has its other threads spin between products: on a busy machine
the products of this network cost six times the CPU time that one thread takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)
"""OpenBLAS's functions to get and set, as NumPy's builds call them."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Set back when it ends; does nothing where NumPy was built with another library."""
    if (found := _get_and_set()) is None:
        yield
        return
    get, set_to = found
    before = get()
    set_to(1)
    try:
        yield
    finally:
        set_to(before)


@cache
def _get_and_set() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))  # the one that is loaded already
            for name in _NAMES:
                if hasattr(library, name.format("get")):
                    return getattr(library, name.format("get")), getattr(
                        library, name.format("set")
                    )
    return None
