"""Pickles that hold arrays, read without running anything that is in them.

A pickle may name any function of any module; this reader knows the handful that numpy arrays are
made of and refuses everything else by name.
"""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from kinema.errors import UnsafeModel


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as old pickle protocols write them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return codecs.encode(text, "latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]
ARRAYS: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
}
"""All that a pickled array is made of, by module and name."""


class ArraysOnly(pickle.Unpickler):
    """Loads what :attr:`known` can make; ``load`` raises UnsafeModel at any other name."""

    known: ClassVar[Mapping[tuple[str, str], Any]] = ARRAYS
    """A subclass may know more."""
    holds: ClassVar[str] = "one array"
    """What such a file has in it, for the error."""

    def find_class(self, module: str, name: str) -> Any:
        """The maker that the pickle names.

        Raises:
            UnsafeModel: it is none of those that are known.
        """
        try:
            return self.known[module, name]
        except KeyError:
            raise UnsafeModel(
                f"The pickle asks for {module}.{name}, which is no array.",
                hint=f"Do not load it. Such a file holds {self.holds} and nothing else.",
            ) from None
