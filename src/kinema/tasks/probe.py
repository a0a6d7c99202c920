"""What is in a file, and which of its frames a sampling would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.families import DEFAULT_SAMPLING
from kinema.types import FrameSampling, Source
from kinema.video import VideoInfo, contact_sheet, load_frames, plan, probe
from kinema.video.info import SamplingPlan

SHEET_FRAME_PIXELS = 240
"""Shorter side that frames of a contact sheet are decoded at."""


@dataclass(frozen=True)
class Report:
    """What :func:`examine` found."""

    info: VideoInfo
    plan: SamplingPlan

    def to_dict(self) -> dict[str, Any]:
        """One record, ready for JSON."""
        return self.info.to_dict() | {"sampling": self.plan.to_dict()}


def examine(source: Source, sampling: FrameSampling = DEFAULT_SAMPLING) -> Report:
    """Describe a file and say which frames ``sampling`` takes from it.

    Raises:
        MediaError: the source cannot be used.
    """
    return Report(probe(source), plan(source, sampling.or_default(DEFAULT_SAMPLING)))


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
