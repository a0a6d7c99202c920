"""What was in frames that were seen before: callers ask about the same video again and again."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import torch
from torch import Tensor

from kinema.models.tiny.vision import classify

_MOST_FRAMES = 2048
"""Four kilobytes each."""


class FrameMemory:
    """Class probabilities by the bytes of a frame; the frames of a batch are looked at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def classify(self, tower: torch.nn.Module, views: Tensor) -> Tensor:
        """See :func:`kinema.models.tiny.vision.classify`; what is known is not looked at again."""
        names = [blake2b(frame.numpy(), digest_size=16).digest() for frame in views.cpu()]
        new = {name: i for i, name in enumerate(names) if name not in self._known}
        if new:
            found = classify(tower, views[list(new.values())])
            self._known.update(zip(new, found, strict=True))
        for name in names:
            self._known.move_to_end(name)
        seen = torch.stack([self._known[name] for name in names])
        while len(self._known) > _MOST_FRAMES:
            self._known.popitem(last=False)
        return seen
