"""Frames that were seen before are known, and nothing else is."""

from __future__ import annotations

import torch

from kinema.models.tiny.memory import FrameMemory
from kinema.models.tiny.vision import classify


def _tower(looked: list[int]) -> torch.nn.Module:
    class Tower(torch.nn.Module):
        def forward(self, views):
            looked.append(len(views))
            return views.flatten(1)[:, :10]

    return Tower()


def test_a_frame_is_looked_at_once_however_often_it_comes():
    looked: list[int] = []
    tower, memory = _tower(looked), FrameMemory()
    frames = torch.randn(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([frames, frames.flip(0)])
    seen = memory.classify(tower, twice)
    assert sum(looked) == 6  # two views a frame
    again = memory.classify(tower, frames)
    assert sum(looked) == 6
    assert torch.equal(seen, classify(_tower([]), twice))
    assert torch.equal(again, seen[:3])
