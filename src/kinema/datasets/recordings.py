"""Labelled recordings of people at work: Breakfast and 50Salads as they lie on disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinema.datasets.segments import Segment, parse_segments, runs
from kinema.datasets.variants import augmented_from
from kinema.errors import UsageError
from kinema.textfiles import read_text

WITHOUT_CLASS: Mapping[str, str] = {"walk_in": "SIL", "walk_out": "SIL"}
"""Breakfast's raw labels that its 48 benchmark classes lack, and what stands for them."""

_BREAKFAST_VIDEO = re.compile(r"(P\d+)_([a-z]+)(?:_ch[01])?")
_SALADS_VIDEO = re.compile(r"rgb-(\d+)-([12])")


@dataclass(frozen=True)
class Recording:
    """One video file with its segments."""

    video: Path
    person: str
    camera: str
    activity: str
    event: str
    """What was filmed: the same for all cameras that saw it."""
    segments: tuple[Segment, ...]


def breakfast(root: Path) -> list[Recording]:
    """Videos ``Pxx/<camera>/Pxx_<activity>[_ch0|_ch1].avi`` with ``.avi.labels`` beside them.

    One stereo channel's labels stand in for the other's. Augmented copies are left out.

    Raises:
        UsageError: there is none, a video has no labels, or labels cannot be read.
    """
    videos = sorted(path for path in root.rglob("P*/*/*.avi"))
    originals = [path for path in videos if augmented_from(path, set(videos)) is None]
    found = []
    for path in originals:
        if (match := _BREAKFAST_VIDEO.fullmatch(path.stem)) is None:
            continue
        person, activity = match.groups()
        segments = _read_segments(_labels_of(path))
        camera = path.parent.name
        event = f"{person}_{activity}"
        found.append(Recording(path, person, camera, activity, event, segments))
    return _some(found, root, "P03/cam01/P03_tea.avi")


def salads(root: Path) -> list[Recording]:
    """Videos ``rgb-<person>-<1|2>.avi`` with ``timestampGT2/<video>`` or ``groundTruth/*.txt``.

    The first has lines ``start - end action``, the second one label a frame.

    Raises:
        UsageError: there is none, a video has no labels, or labels cannot be read.
    """
    found = []
    for path in sorted(root.rglob("rgb-*.avi")):
        if (match := _SALADS_VIDEO.fullmatch(path.stem)) is None:
            continue
        segments = _salads_segments(root, path.stem)
        event = path.stem.removeprefix("rgb-")
        found.append(Recording(path, match[1], "top", "making salads", event, segments))
    return _some(found, root, "rgb-01-1.avi")


def _some(found: list[Recording], root: Path, example: str) -> list[Recording]:
    if not found:
        raise UsageError(f"{root} holds no video like {example}.", hint="Give the folder of it.")
    return found


def _labels_of(video: Path) -> Path:
    other = re.sub(r"_ch([01])\.", lambda match: f"_ch{1 - int(match[1])}.", video.name)
    for name in (video.name, other):
        if (path := video.with_name(f"{name}.labels")).is_file():
            return path
    raise UsageError(f"{video} has no labels.", hint=f"{video.name}.labels belongs beside it.")


def _salads_segments(root: Path, name: str) -> tuple[Segment, ...]:
    for place in (f"timestampGT2/{name}", f"timestampGT2/{name}.txt"):
        if (path := root / place).is_file():
            return _read_segments(path)
    if (path := root / "groundTruth" / f"{name}.txt").is_file():
        return tuple(runs(read_text(path).split()))
    raise UsageError(
        f"{name} has no labels.", hint=f"timestampGT2/{name} or groundTruth/{name}.txt is wanted."
    )


def _read_segments(path: Path) -> tuple[Segment, ...]:
    parsed = parse_segments(read_text(path), ends="exclusive")
    if parsed.unparsed_lines or not parsed.segments:
        line = parsed.unparsed_lines[0] if parsed.unparsed_lines else "nothing"
        raise UsageError(f"{path} holds {line!r}.", hint="A line is: 1-30 take_bowl")
    # The written end of the last segment is the last frame, which belongs to it.
    last = replace(parsed.segments[-1], end=parsed.segments[-1].end + 1)
    return (*parsed.segments[:-1], last)


def renamed(segments: Iterable[Segment], names: Mapping[str, str]) -> tuple[Segment, ...]:
    """Segments with other labels; neighbours that are called the same then become one."""
    merged: list[Segment] = []
    for segment in segments:
        label = names.get(segment.label, segment.label)
        if merged and merged[-1].label == label and merged[-1].end == segment.start:
            merged[-1] = replace(merged[-1], end=segment.end)
        else:
            merged.append(replace(segment, label=label))
    return tuple(merged)


def rescaled(segments: Sequence[Segment], *, num_frames: int, grid: int) -> tuple[Segment, ...]:
    """Segments of ``num_frames`` on a grid of ``grid`` steps: frame ``f`` is at ``f·grid/N``.

    Borders are rounded to the nearest step and none is lost: a segment shorter than a step takes
    one. A text that was written on the grid is brought back with the two counts exchanged.
    """
    made = []
    taken = 0
    for place, segment in enumerate(segments):
        left = len(segments) - place - 1  # each segment to come needs a step as well
        start = max(taken, min(round(segment.start * grid / num_frames), grid - left - 1))
        end = min(max(start + 1, round(segment.end * grid / num_frames)), grid - left)
        made.append(Segment(start, end, segment.label))
        taken = end
    return tuple(made)
