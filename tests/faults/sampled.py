"""Damaged videos sampled and read whole: do both show the same pictures, and if not, is it said?

``test_sampled.py`` takes a few hundred; ``python benchmarks/robustness.py`` takes 10,000. The
inputs are those of :mod:`faults.mutate`, videos only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from faults.mutate import DEADLINE_SECONDS, MEMORY_BYTES, make_corpus, make_input
from kinema.errors import KinemaError
from kinema.types import Frames
from kinema.video import Workers

NUM_SAMPLED = 8
EVERYTHING = 10_000
_SAME_TIME_SECONDS = 2e-3


@dataclass
class Comparison:
    """What became of all inputs; the lists hold their numbers."""

    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    said: list[int] = field(default_factory=list)
    """Other pictures, and the sampled read says that something is damaged."""
    unseen_on_the_way: list[int] = field(default_factory=list)
    """Other pictures in silence: the decoder reports damage only where it is given every packet."""
    unseen: list[int] = field(default_factory=list)
    """Other pictures in silence: the decoder reports nothing either way."""

    whole_fails: list[int] = field(default_factory=list)
    """Read in part and not as a whole."""

    @property
    def num_silent(self) -> int:
        """Inputs that gave other pictures without a word."""
        return len(self.unseen_on_the_way) + len(self.unseen)


def compare_all(
    numbers: range, *, say: Callable[[Comparison], None] = lambda _: None
) -> Comparison:
    """Read each input twice, in a process with a deadline and a memory limit."""
    result, corpus = Comparison(), make_corpus()
    with Workers(1, deadline_seconds=DEADLINE_SECONDS, memory_bytes=MEMORY_BYTES) as workers:
        for number in numbers:
            case = make_input(number, corpus)
            if case.origin.startswith("still"):
                continue
            sampled = _read(workers, case.data, NUM_SAMPLED)
            whole = _read(workers, case.data, EVERYTHING)
            result.count += 1
            result.outcomes[_compare(result, number, sampled, whole)] += 1
            say(result)
    return result


def _read(workers: Workers, data: bytes, num_frames: int) -> Frames | KinemaError:
    try:
        return workers.load_frames(data, num_frames=num_frames)
    except KinemaError as problem:
        return problem


def _compare(
    result: Comparison, number: int, sampled: Frames | KinemaError, whole: Frames | KinemaError
) -> str:
    if isinstance(sampled, KinemaError):
        return "both fail" if isinstance(whole, KinemaError) else "sampled fails"
    if isinstance(whole, KinemaError):
        result.whole_fails.append(number)
        return "whole fails"
    if _same_pictures(sampled, whole):
        return "same pictures, damage said" if is_said(sampled) else "same pictures"
    if is_said(sampled):
        result.said.append(number)
        return "other pictures, damage said"
    (result.unseen_on_the_way if is_said(whole) else result.unseen).append(number)
    return "other pictures, nothing said"


def is_said(frames: Frames) -> bool:
    """Whether there is a warning about the file, and not only about how many frames it has."""
    return any(not warning.startswith("Asked for") for warning in frames.warnings)


def _same_pictures(sampled: Frames, whole: Frames) -> bool:
    """At the same places, or at the same times up to where the clock begins.

    Reading all of a file may find that a frame never comes, or that the first one does not.
    """
    by_place = dict(zip(whole.indices.tolist(), whole.pixels, strict=True))
    places = sampled.indices.tolist()
    if all(
        _equal(pixels, by_place.get(place))
        for place, pixels in zip(places, sampled.pixels, strict=True)
    ):
        return True
    return any(
        _same_at(sampled, whole, float(start - sampled.seconds[0])) for start in whole.seconds
    )


def _same_at(sampled: Frames, whole: Frames, later_seconds: float) -> bool:
    for seconds, pixels in zip(sampled.seconds + later_seconds, sampled.pixels, strict=True):
        distance = np.abs(whole.seconds - seconds)
        nearest = int(distance.argmin())
        if distance[nearest] > _SAME_TIME_SECONDS or not _equal(pixels, whole.pixels[nearest]):
            return False
    return True


def _equal(one: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> bool:
    return other is not None and np.array_equal(one, other)
