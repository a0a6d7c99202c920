"""Files that people and programs read, made from one record; a format is one file and a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from kinema.captioning.records import VideoRecord
from kinema.errors import KinemaError, UsageError
from kinema.lazy import Row, Table
from kinema.types import Frames

Load = Callable[..., Frames]
"""``load_frames`` of :mod:`kinema.video` or of worker processes."""


@dataclass(frozen=True, kw_only=True)
class Export(Row):
    """A format; its function takes the record, or all records of a run, and the path."""

    file: str
    """What the file is called; of a video, what follows the video's name."""
    shows_frames: bool = False
    """The function takes ``load`` as well."""


def _made_by(
    writer: str, file: str, summary: str, *, needs: str = "", shows_frames: bool = False
) -> Export:
    return Export(
        f"kinema.captioning.exports.{writer}",
        needs=(needs,) if needs else (),
        install="pip install 'kinema[captions]'",
        summary=summary,
        file=file,
        shows_frames=shows_frames,
    )


VIDEO_EXPORTS = Table(
    "export",
    {
        "json": _made_by("json:write_json", ".json", "the whole record"),
        "srt": _made_by("subtitles:write_srt", ".srt", "captions as SubRip subtitles"),
        "vtt": _made_by("subtitles:write_vtt", ".vtt", "captions as WebVTT"),
        "chapters": _made_by("subtitles:write_chapters", ".chapters.vtt", "chapters as WebVTT"),
        "ffmetadata": _made_by("ffmetadata:write_ffmetadata", ".ffmetadata", "chapters for FFmpeg"),
        "markdown": _made_by(
            "markdown:write_markdown", ".md", "a page with thumbnails", shows_frames=True
        ),
        "html": _made_by(
            "report:write_html",
            ".html",
            "a page with the video to click through",
            shows_frames=True,
        ),
        "edl": _made_by("edl:write_edl", ".edl", "segments as a CMX 3600 edit list"),
        "otio": _made_by(
            "otio:write_otio",
            ".otio",
            "segments as an OpenTimelineIO timeline",
            needs="opentimelineio",
        ),
    },
)
"""One file a video."""
RUN_EXPORTS = Table(
    "export",
    {
        "jsonl": _made_by("json:write_jsonl", "captions.jsonl", "one record a line"),
        "csv": _made_by("csv:write_csv", "captions.csv", "one caption a row"),
        "parquet": _made_by(
            "parquet:write_parquet", "captions.parquet", "one caption a row, typed", needs="pyarrow"
        ),
        "webdataset": _made_by(
            "webdataset:write_webdataset",
            "captions.tar",
            "a tar of pictures with their captions",
            shows_frames=True,
        ),
        "failed": _made_by("triage:write_failed", "failed.jsonl", "what has no caption, and why"),
        "triage": _made_by("triage:write_triage", "triage.csv", "facts about each file"),
    },
)
"""One file for all videos of a run."""


def check_formats(names: Iterable[str]) -> None:
    """Refuse a format that there is none of, or whose package is missing, before any work.

    Raises:
        UnknownName: no such format.
        MissingPackage: it needs a package that is not installed.
    """
    every = Table("export", VIDEO_EXPORTS | RUN_EXPORTS)
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
    return [
        _write(VIDEO_EXPORTS, name, record, folder / f"{stem}{VIDEO_EXPORTS[name].file}", load)
        for name in names
        if name in VIDEO_EXPORTS
    ]


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
    for name in filter(RUN_EXPORTS.__contains__, names):
        stem, dot, suffix = RUN_EXPORTS[name].file.partition(".")
        path = folder / f"{stem}{tag}{dot}{suffix}"
        written.append(_write(RUN_EXPORTS, name, records(), path, load))
    return written


def check_folder(folder: Path) -> None:
    """See that the folder can be made and written, before any work; it is not made yet.

    Raises:
        UsageError: it cannot.
    """
    try:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as problem:
        raise UsageError(
            f"{folder} cannot be written: {problem.strerror}.", hint="Choose another --output."
        ) from problem


def _write(table: Table[Export], name: str, what: object, path: Path, load: Load | None) -> Path:
    try:
        table.load(name)(what, path, *((load,) if table[name].shows_frames else ()))
    except OSError as problem:
        raise KinemaError(
            f"{path} cannot be written: {problem.strerror}.",
            hint="Free some disk space and run the same command again; nothing is lost.",
        ) from problem
    return path
