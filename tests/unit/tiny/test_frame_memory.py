"""Frames that were seen before are known, and nothing else is."""

from __future__ import annotations

import copy

import numpy as np
import torch

from kinema.models.tiny.memory import FrameMemory


class Doubling:
    """Doubles frames and counts them."""

    def __init__(self):
        self.looked = 0

    def __call__(self, frames):
        self.looked += len(frames)
        return torch.as_tensor(frames) * 2


def drawn(count: int) -> torch.Tensor:
    return torch.randn(count, 2, 3, 4, generator=torch.Generator().manual_seed(0))


def test_a_frame_is_looked_at_once_however_often_it_comes():
    memory, make, frames = FrameMemory(10), Doubling(), drawn(3)
    twice = torch.cat([frames, frames.flip(0)])
    assert torch.equal(memory.recall(twice, make), twice * 2)
    assert make.looked == 3
    assert torch.equal(memory.recall(frames, make), frames * 2)
    assert make.looked == 3


def test_arrays_are_known_by_their_bytes_and_their_shape():
    memory, make = FrameMemory(10), Doubling()
    flat = np.zeros((1, 2, 8), dtype=np.uint8)
    assert memory.recall(flat, make).shape == (1, 2, 8)
    assert memory.recall(flat.reshape(1, 4, 4), make).shape == (1, 4, 4)
    assert make.looked == 2
    memory.recall(flat.copy(), make)
    assert make.looked == 2


def test_the_oldest_are_forgotten_and_no_row_holds_on_to_the_rest():
    memory, make, frames = FrameMemory(2), Doubling(), drawn(5)
    assert torch.equal(memory.recall(frames, make), frames * 2)
    memory.recall(frames[3:], make)
    assert make.looked == 5
    memory.recall(frames[:1], make)
    assert make.looked == 6
    kept = memory._known.values()
    assert {row.untyped_storage().nbytes() for row in kept} == {frames[0].nbytes}


def test_a_copy_remembers_nothing():
    memory, make, frames = FrameMemory(10), Doubling(), drawn(1)
    memory.recall(frames, make)
    copy.deepcopy(memory).recall(frames, make)
    assert make.looked == 2
