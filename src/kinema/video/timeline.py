"""When each frame of a video is shown: the clock that sampling works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.errors import EmptyRange

CLOCK_TOLERANCE_SECONDS = 1e-3
"""Containers round times to milliseconds; a frame this close to a time counts as shown at it."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Presentation times of every frame, in the order they are shown."""

    seconds: NDArray[np.float64]
    """float64[N], strictly increasing, the first is 0."""
    keyframes: NDArray[np.bool_]
    """bool[N], frames that decode without any other."""
    duration_seconds: float
    """From the first frame's start to the last one's end."""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def fps(self) -> float | None:
        """Average frames a second, None where the video has no length."""
        return len(self) / self.duration_seconds if self.duration_seconds > 0 else None

    @property
    def is_constant(self) -> bool:
        """True when every frame is shown equally long, up to the container's rounding."""
        steps = np.diff(self.seconds)
        return len(steps) < 2 or float(np.ptp(steps)) <= 2.1 * CLOCK_TOLERANCE_SECONDS

    def shown_at(
        self,
        seconds: NDArray[np.float64],
        *,
        tolerance_seconds: float = CLOCK_TOLERANCE_SECONDS,
    ) -> NDArray[np.int64]:
        """int64[K], the frame on screen at each time; the first and last reach to infinity."""
        if len(self) > 1:
            tolerance_seconds = min(tolerance_seconds, float(np.diff(self.seconds).min()) / 2)
        found = np.searchsorted(self.seconds, seconds + tolerance_seconds, side="right") - 1
        return np.clip(found, 0, len(self) - 1).astype(np.int64)

    def inside(self, start_seconds: float, end_seconds: float) -> NDArray[np.int64]:
        """int64[M], frames that begin in [start, end), or the one shown then if none does.

        Raises:
            EmptyRange: the range begins after the last frame has gone.
        """
        if start_seconds >= max(self.duration_seconds, float(self.seconds[-1]) + 1e-9):
            raise EmptyRange(
                f"--start {start_seconds:g} lies beyond the end: "
                f"the video lasts {self.duration_seconds:.2f} s.",
                hint="Choose an earlier start.",
            )
        first, stop = np.searchsorted(self.seconds, [start_seconds - 1e-9, end_seconds - 1e-9])
        if first == stop:
            return self.shown_at(np.array([start_seconds]))
        return np.arange(first, stop, dtype=np.int64)
