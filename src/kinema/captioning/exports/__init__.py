"""Files that people and programs read, made from one record; a format is one file and a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kinema.captioning.records import VideoRecord
from kinema.errors import KinemaError, UsageError
from kinema.lazy import Row, Table
from kinema.types import Frames

Load = Callable[..., Frames]
"""``load_frames`` of :mod:`kinema.video` or of worker processes."""


@dataclass(frozen=True)
class VideoExport:
    """One file a video."""

    suffix: str
    """What follows the video's name."""
    write: Callable[..., None]
    """Takes the record and the path; a file that shows frames also ``load``."""
    shows_frames: bool = False


@dataclass(frozen=True)
class RunExport:
    """One file for all videos of a run."""

    name: str
    """Of the file."""
    write: Callable[..., None]
    """Takes the records and the path; a file that shows frames also ``load``."""
    shows_frames: bool = False


_HERE = "kinema.captioning.exports"

VIDEO_EXPORTS = Table(
    "export",
    {
        "json": Row(f"{_HERE}.json:JSON", summary="the whole record"),
        "srt": Row(f"{_HERE}.subtitles:SRT", summary="captions as SubRip subtitles"),
        "vtt": Row(f"{_HERE}.subtitles:VTT", summary="captions as WebVTT"),
        "chapters": Row(f"{_HERE}.subtitles:CHAPTERS", summary="chapters as WebVTT"),
        "ffmetadata": Row(f"{_HERE}.ffmetadata:FFMETADATA", summary="chapters for FFmpeg"),
        "markdown": Row(f"{_HERE}.markdown:MARKDOWN", summary="a page with thumbnails"),
        "html": Row(f"{_HERE}.report:HTML", summary="a page with the video to click through"),
        "edl": Row(f"{_HERE}.edl:EDL", summary="segments as a CMX 3600 edit list"),
        "otio": Row(
            f"{_HERE}.otio:OTIO",
            needs=("opentimelineio",),
            install="pip install 'kinema[captions]'",
            summary="segments as an OpenTimelineIO timeline",
        ),
    },
)
RUN_EXPORTS = Table(
    "export",
    {
        "jsonl": Row(f"{_HERE}.json:JSONL", summary="one record a line"),
        "csv": Row(f"{_HERE}.csv:CSV", summary="one caption a row"),
        "parquet": Row(
            f"{_HERE}.parquet:PARQUET",
            needs=("pyarrow",),
            install="pip install 'kinema[captions]'",
            summary="one caption a row, typed",
        ),
        "webdataset": Row(
            f"{_HERE}.webdataset:WEBDATASET", summary="a tar of pictures with their captions"
        ),
        "failed": Row(f"{_HERE}.triage:FAILED", summary="what has no caption, and why"),
        "triage": Row(f"{_HERE}.triage:TRIAGE", summary="facts about each file"),
    },
)


def check_formats(names: Iterable[str]) -> None:
    """Refuse a format that there is none of, or whose package is missing, before any work.

    Raises:
        UnknownName: no such format.
        MissingPackage: it needs a package that is not installed.
    """
    every = Table("export", {**VIDEO_EXPORTS.rows, **RUN_EXPORTS.rows})
    for name in names:
        every.load(name)


def write_video(
    record: VideoRecord,
    names: Iterable[str],
    folder: Path,
    stem: str,
    *,
    load: Load | None = None,
) -> list[Path]:
    """Write a video's files; a format that is written once for a run is left out.

    Args:
        load: reads the frames that pages show; without it they show none.

    Raises:
        KinemaError: the disk is full or the folder cannot be written.
    """
    written = []
    for name in names:
        if name in VIDEO_EXPORTS:
            export: VideoExport = VIDEO_EXPORTS.load(name)
            path = folder / f"{stem}{export.suffix}"
            _write(export, record, path, load)
            written.append(path)
    return written


def write_run(
    records: Callable[[], Iterable[VideoRecord]],
    names: Iterable[str],
    folder: Path,
    *,
    tag: str = "",
    load: Load | None = None,
) -> list[Path]:
    """Write the files that hold all videos.

    Args:
        records: makes a fresh iterator each time.
        tag: stands before a file's suffix, to tell shards apart.
        load: reads the frames that some files hold; without it they hold none.

    Raises:
        KinemaError: the disk is full or the folder cannot be written.
    """
    written = []
    for name in names:
        if name in RUN_EXPORTS:
            export: RunExport = RUN_EXPORTS.load(name)
            stem, dot, suffix = export.name.partition(".")
            path = folder / f"{stem}{tag}{dot}{suffix}"
            _write(export, records(), path, load)
            written.append(path)
    return written


def check_folder(folder: Path) -> None:
    """Make the folder and see that it can be written, before any work.

    Raises:
        UsageError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".kinema-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as problem:
        raise UsageError(
            f"{folder} cannot be written: {problem.strerror}.", hint="Choose another --output."
        ) from problem


def _write(export: VideoExport | RunExport, what: object, path: Path, load: Load | None) -> None:
    try:
        export.write(what, path, *((load,) if export.shows_frames else ()))
    except OSError as problem:
        raise KinemaError(
            f"{path} cannot be written: {problem.strerror}.",
            hint="Free some disk space and run the same command again; nothing is lost.",
        ) from problem
