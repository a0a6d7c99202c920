"""From class probabilities to what may be said: which things are seen, how surely, and when.

A thing is sure when both views of a frame agree on it, in two frames or very clearly in one. The
bounds were set on real clips: what is in them stays above, and what the network wrongly believes of
an animated rabbit (an albatross), a turning globe (a bubble) or a singer (a tie) stays below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kinema.models.spotter.labels import DOUBTFUL, KINDS, LABELS, Concept

Likely = NDArray[np.float32]

SURE = 0.5
"""A label that both views find as likely as this, in two frames, is said to be there."""
SURE_KIND = 0.6
"""The same for a kind, whose classes are added up."""
SURE_ONCE = 0.65
"""As likely as this in one frame is enough for a label."""
SURE_KIND_ALONE, SURE_KIND_ONCE = 0.7, 0.85
"""The same for a kind in a picture, and in one frame among several."""
FOLLOWED = 0.3
"""A sure thing is followed down to this in other frames."""
MAYBE = 0.33
"""Above this something that nobody asked for may be there."""
MAYBE_ASKED, MAYBE_ASKED_BROAD = 0.12, 0.4
"""Above this something that was asked for may be there; of broad kinds something always is."""
_STANDS_OUT, _STANDS_OUT_BROAD = 0.15, 0.2
"""Some class of a kind must reach this: many faint guesses (animals in noise) are no evidence."""


@dataclass(frozen=True, eq=False)
class Clip:
    """What the network made of one video or picture, and what is known about it."""

    kind: str
    """``video`` or ``picture``."""
    views: NDArray[np.float32]
    """float32[T, V, 1000], class probabilities of each view of each frame."""
    seconds: NDArray[np.float64]
    """float64[T], presentation times."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the frames in pixels."""
    total_frames: int | None = None
    duration_seconds: float | None = None
    source_fps: float | None = None
    whole: Clip | None = None
    """What this is a part of: it is sure of what the whole is sure of."""
    _found: dict[Concept, Likely] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.views)

    def at(self, frames: Sequence[int]) -> Clip:
        """Some frames of it; the clock and the rest are as they were."""
        taken = list(frames)
        return replace(
            self, views=self.views[taken], seconds=self.seconds[taken], whole=self, _found={}
        )

    def likely(self, concept: Concept) -> Likely:
        """float32[T], how likely each frame shows the concept by the view that doubts it most."""
        if concept not in self._found:
            views = self.views[:, :, list(concept.classes)]
            likely = views.sum(2).min(1)
            if len(concept.classes) > 1:
                bound = _STANDS_OUT_BROAD if concept.is_broad else _STANDS_OUT
                likely = likely * (views.mean(1).max(1) >= bound)
            self._found[concept] = likely
        return self._found[concept]

    def is_sure(self, concept: Concept) -> bool:
        """Whether it may be said without a doubt that the concept is seen."""
        if self.whole is not None:
            return self.whole.is_sure(concept)
        classes = tuple(c for c in concept.classes if c not in DOUBTFUL)
        if not classes:
            return False
        likely = np.sort(self.likely(Concept(concept.name, classes, concept.is_broad)))[::-1]
        is_kind, is_alone = len(classes) > 1, len(likely) == 1
        once = (SURE_KIND_ALONE if is_alone else SURE_KIND_ONCE) if is_kind else SURE_ONCE
        twice = SURE_KIND if is_kind else SURE
        return bool(likely[0] >= once or (not is_alone and likely[1] >= twice))

    def look_for(self, concept: Concept, bound: float | None = None) -> Sighting | None:
        """Where the concept is seen, or None.

        Args:
            concept: a label or a kind.
            bound: how likely it must be where it is not sure; lower ones count where it is None.
        """
        likely, sure = self.likely(concept), self.is_sure(concept)
        if bound is None:
            bound = MAYBE_ASKED_BROAD if concept.is_broad else MAYBE_ASKED
        frames = np.flatnonzero(likely >= (FOLLOWED if sure else bound))
        return Sighting(concept, tuple(frames.tolist()), sure) if len(frames) else None

    def times(self, frames: tuple[int, ...]) -> str:
        """`` from 0.2 to 1.4 s and at 3.0 s``; empty for a picture."""
        if self.kind == "picture":
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

    def seen_in(self, clip: Clip) -> str:
        """``a banana from 0.2 to 1.4 s``."""
        return f"{self.concept.with_article}{clip.times(self.frames)}"


def find_sightings(clip: Clip, within: Concept | None = None) -> list[Sighting]:
    """Everything that a clip supports: sure things as they appear, then others as likely.

    A thing is named as exactly as the evidence allows: where no label is sure and the labels of one
    kind are together, the kind is named (a tie, a wheeled vehicle).

    Args:
        clip: what was seen.
        within: labels and kinds of this kind alone.
    """
    inside = [c for c in (*LABELS, *KINDS) if within is None or c.is_a(within)]
    peaks = clip.views.min(1).max(0)
    labels = [
        s
        for c in inside
        if len(c.classes) == 1 and peaks[c.classes[0]] >= FOLLOWED
        if (s := clip.look_for(c, MAYBE))
    ]
    seen = [s for s in labels if s.sure]
    explained = [*seen]
    for kind in sorted((c for c in inside if len(c.classes) > 1), key=lambda c: len(c.classes)):
        sighting = clip.look_for(kind, MAYBE)
        if sighting is None or not sighting.sure:
            continue
        named = {f for s in explained if s.concept.is_a(kind) for f in s.frames}
        explained.append(sighting)
        # A narrow kind is the label that it holds; a broad one may be something else elsewhere.
        if named and not kind.is_broad:
            continue
        frames = tuple(f for f in sighting.frames if f not in named)
        if not named or _longest_run([f for f in frames if clip.likely(kind)[f] >= SURE_KIND]) > 2:
            seen.append(Sighting(kind, frames, True))
    maybe = [s for s in labels if not s.sure and not _covered(s, seen)]
    maybe.sort(key=lambda s: -float(clip.likely(s.concept).max()))
    return sorted(seen, key=lambda s: (s.frames, s.concept.name)) + maybe


def _longest_run(frames: Sequence[int]) -> int:
    runs = np.split(np.asarray(frames), np.flatnonzero(np.diff(frames) > 1) + 1)
    return max(map(len, runs))


def _covered(sighting: Sighting, seen: Sequence[Sighting]) -> bool:
    """Whether a sure label of the same narrow kind stands for it (a bow tie for a Windsor tie)."""
    kinds = [k for k in KINDS if not k.is_broad and sighting.concept.is_a(k)]
    return any(s.concept.is_a(k) and len(s.concept.classes) == 1 for k in kinds for s in seen)
