"""Which recordings are trained on and which are held out, and what would leak between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

from kinema.datasets.recordings import Recording
from kinema.errors import UsageError
from kinema.textfiles import read_lines

# Breakfast's four folds are by person: P03-P15, P16-P28, P29-P41, P42-P54.
_BREAKFAST_FIRST, _BREAKFAST_PERSONS, _BREAKFAST_FOLDS = 3, 13, 4
_SALADS_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Two lists of recordings."""

    train: tuple[Recording, ...]
    test: tuple[Recording, ...]

    @property
    def leaks(self) -> tuple[Recording, ...]:
        """Test recordings whose event was filmed for training as well, by whichever camera.

        Views of one event are synchronous and have the same labels: whoever has seen one knows
        the answer for the others.
        """
        seen = {recording.event for recording in self.train}
        return tuple(recording for recording in self.test if recording.event in seen)


def breakfast_fold(recordings: Sequence[Recording], fold: int) -> Split:
    """One of the four standard folds of Breakfast, disjoint by person.

    Raises:
        UsageError: there is no such fold.
    """
    _check(fold, _BREAKFAST_FOLDS)
    first = _BREAKFAST_FIRST + _BREAKFAST_PERSONS * (fold - 1)
    persons = {f"P{number:02d}" for number in range(first, first + _BREAKFAST_PERSONS)}
    return _parted(recordings, lambda recording: recording.person in persons)


def salads_fold(recordings: Sequence[Recording], fold: int) -> Split:
    """One of five folds of 50Salads, disjoint by person: a fifth of them each, in their order.

    The published folds are files (``splits/test.split1.bundle``), see :func:`listed`.

    Raises:
        UsageError: there is no such fold.
    """
    _check(fold, _SALADS_FOLDS)
    persons = sorted({recording.person for recording in recordings})
    first, end = (len(persons) * border // _SALADS_FOLDS for border in (fold - 1, fold))
    return _parted(recordings, lambda recording: recording.person in persons[first:end])


def listed(recordings: Sequence[Recording], path: Path) -> Split:
    """Hold out what a file lists: ``/P03/cam01/P03_salat.avi`` or ``rgb-01-1.txt`` a line.

    Raises:
        UsageError: there is no such file, or a line names no recording.
    """
    if not path.is_file():
        raise UsageError(f"There is no list {path}.", hint="One video a line, relative.")
    lines = [line.strip().lstrip("/") for _, line in read_lines(path)]
    held = {_found(recordings, line, path).video for line in lines if line}
    return _parted(recordings, lambda recording: recording.video in held)


def _found(recordings: Sequence[Recording], line: str, path: Path) -> Recording:
    wanted = Path(line).with_suffix(".avi")
    for recording in recordings:
        if recording.video.parts[-len(wanted.parts) :] == wanted.parts:
            return recording
    raise UsageError(f"{path.name} names {line}, which is not there.", hint="Check its spelling.")


def check_leak(split: Split) -> None:
    """Refuse a split whose test events are trained on.

    Raises:
        UsageError: says how many are.
    """
    if leaks := split.leaks:
        raise UsageError(
            f"{len(leaks)} of {len(split.test)} test videos show an event that another camera "
            f"filmed for training, {leaks[0].video.name} the first; their labels are the same.",
            hint="Use a standard fold (--fold 1), or --allow-leak if that is what you measure.",
        )


def _parted(recordings: Sequence[Recording], is_held: Callable[[Recording], bool]) -> Split:
    return Split(tuple(filterfalse(is_held, recordings)), tuple(filter(is_held, recordings)))


def _check(fold: int, most: int) -> None:
    if not 1 <= fold <= most:
        raise UsageError(f"There is no fold {fold}.", hint=f"They are 1 to {most}.")
