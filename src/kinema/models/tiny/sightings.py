"""From class probabilities to what may be said: which things are seen, how surely, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.models.tiny.labels import KINDS, LABELS, Concept

SURE = 0.5
"""Seen as likely as this in some frame, a thing is said to be there."""
MAYBE = 0.2
"""Above this it may be there; a sure thing is followed down to this in other frames."""


@dataclass(frozen=True, eq=False)
class Clip:
    """What the vision tower made of one video or picture."""

    kind: str
    """``video`` or ``picture``."""
    probabilities: NDArray[np.float32]
    """float32[T, 1000]."""
    seconds: NDArray[np.float64]
    """float64[T], NaN where unknown."""

    def of(self, concept: Concept) -> NDArray[np.float32]:
        """float32[T], how likely each frame shows one of the concept's classes.

        Zero where no class alone reaches ``MAYBE``: many faint guesses are no evidence.
        """
        classes = self.probabilities[:, concept.classes]
        likely: NDArray[np.float32] = classes.sum(1) * (classes.max(1) >= MAYBE)
        return likely

    def look_for(self, concept: Concept) -> Sighting | None:
        """Where the concept is seen, or None."""
        likely = self.of(concept)
        frames = tuple(np.flatnonzero(likely >= MAYBE).tolist())
        return Sighting(concept, frames, bool(likely.max() >= SURE)) if frames else None

    def times(self, frames: tuple[int, ...]) -> str:
        """`` from 0.2 to 1.4 s and at 3.0 s``; empty where no time is known."""
        if len(self.seconds) == 1 or np.isnan(self.seconds).any():
            return ""
        array = np.asarray(frames)
        runs = np.split(array, np.flatnonzero(np.diff(array) > 1) + 1)
        *earlier, last = (self._span(run) for run in runs)
        return f"{','.join(earlier)} and{last}" if earlier else last

    def _span(self, run: NDArray[np.int64]) -> str:
        first, last = (f"{self.seconds[i]:.1f}" for i in (run[0], run[-1]))
        return f" at {first} s" if first == last else f" from {first} to {last} s"


@dataclass(frozen=True)
class Sighting:
    """One thing in some frames of one clip."""

    concept: Concept
    frames: tuple[int, ...]
    sure: bool


def find_sightings(clip: Clip) -> list[Sighting]:
    """Everything that one clip supports: sure things as they appear, then others as likely.

    A thing is named as exactly as the evidence allows: where no label reaches ``SURE`` and
    the labels of one kind do together, the kind is named (a tie, a wheeled vehicle).
    """
    labels = [s for label in LABELS if (s := clip.look_for(label))]
    seen = [s for s in labels if s.sure]
    for kind in sorted(KINDS, key=lambda kind: len(kind.classes)):
        likely = clip.of(kind)
        explained = {f for s in seen if s.concept.is_a(kind) for f in s.frames}
        frames = tuple(f for f in np.flatnonzero(likely >= SURE).tolist() if f not in explained)
        if frames:
            seen.append(Sighting(kind, frames, True))
    maybe = [s for s in labels if not s.sure and not _covered(s, seen)]
    maybe.sort(key=lambda s: -float(clip.of(s.concept).sum()))
    return sorted(seen, key=lambda s: (s.frames, s.concept.name)) + maybe


def _covered(sighting: Sighting, seen: list[Sighting]) -> bool:
    wider = [s for s in seen if sighting.concept.is_a(s.concept)]
    return any(set(sighting.frames) <= set(s.frames) for s in wider)
