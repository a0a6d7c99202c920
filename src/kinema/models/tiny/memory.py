"""What was made of frames that were seen before, as callers ask about a video again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor


class FrameMemory:
    """What a function makes of frames, by the frames' bytes. A copy of it remembers nothing.

    Args:
        most_frames: kept; those that were asked for last.
    """

    def __init__(self, most_frames: int) -> None:
        self._most_frames = most_frames
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[FrameMemory], tuple[int]]:
        return FrameMemory, (self._most_frames,)

    def recall(self, frames: Any, make: Callable[[Any], Tensor]) -> Tensor:
        """What ``make`` gives for the frames, called once with those that are not known.

        Args:
            frames: an array or a CPU tensor, [T, ...].
            make: [N, ...] of the same kind to a tensor [N, ...].
        """
        names = [_name(frame) for frame in np.asarray(frames)]
        with self._lock:
            found = {name: self._known[name] for name in names if name in self._known}
        new = {name: place for place, name in enumerate(names) if name not in found}
        if new:
            # Copies, as a row of what was made would hold on to all of it.
            made = (row.clone() for row in make(frames[list(new.values())]))
            found |= zip(new, made, strict=True)
        with self._lock:
            for name, row in found.items():
                self._known[name] = row
                self._known.move_to_end(name)
            while len(self._known) > self._most_frames:
                self._known.popitem(last=False)
        return torch.stack([found[name] for name in names])


def _name(frame: np.ndarray[Any, Any]) -> bytes:
    kind = f"{frame.dtype}{frame.shape}".encode()
    return kind + blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
