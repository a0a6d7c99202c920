"""What is in a file, and which of its frames a sampling would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.families import DEFAULT_SAMPLING
from kinema.types import FrameSampling, Source
from kinema.video import (
    Shot,
    VideoInfo,
    contact_sheet,
    find_shots,
    load_frames,
    plan,
    probe,
)
from kinema.video.info import SamplingPlan
from kinema.video.shots import DetectorName

SHEET_FRAME_PIXELS = 240
"""Shorter side that frames of a contact sheet are decoded at."""


@dataclass(frozen=True)
class Report:
    """What :func:`examine` found."""

    info: VideoInfo
    plan: SamplingPlan
    shots: tuple[Shot, ...] | None = None
    """None when they were not asked for."""

    def to_dict(self) -> dict[str, Any]:
        """One record, ready for JSON."""
        record = self.info.to_dict() | {"sampling": self.plan.to_dict()}
        if self.shots is not None:
            record["shots"] = [shot.to_dict() for shot in self.shots]
        return record


def examine(
    source: Source,
    sampling: FrameSampling = DEFAULT_SAMPLING,
    *,
    detector: DetectorName | None = None,
) -> Report:
    """Describe a file and say which frames ``sampling`` takes from it.

    Args:
        detector: also cut the video into shots, with this library.

    Raises:
        MediaError: the source cannot be used.
        MissingPackage: the detector is not installed.
    """
    return Report(
        probe(source, track=sampling.track),
        plan(source, sampling.or_default(DEFAULT_SAMPLING)),
        None if detector is None else find_shots(source, detector=detector, track=sampling.track),
    )


def write_contact_sheet(
    source: Source, path: Path, sampling: FrameSampling = DEFAULT_SAMPLING
) -> None:
    """Write a picture of exactly the frames that ``sampling`` takes.

    Raises:
        MediaError: the source cannot be used.
        UsageError: ``path`` cannot be written.
    """
    spec = sampling.or_default(DEFAULT_SAMPLING)
    sheet = contact_sheet(load_frames(source, sampling=spec, size=SHEET_FRAME_PIXELS))
    try:
        sheet.save(path)
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"{path} cannot be written: {problem}.", hint="Try a name like sheet.png."
        ) from problem
