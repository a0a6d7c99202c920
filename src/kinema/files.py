"""Files on this machine: written whole or not at all, told apart by name and content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kinema.errors import MediaError, SourceChanged, UsageError

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
        *(".mxf", ".gxf", ".flv", ".wmv", ".asf", ".wtv", ".ogv", ".3gp", ".vob", ".m2v", ".dv"),
        *(".dav", ".264", ".h264", ".265", ".h265", ".hevc", ".ivf", ".obu", ".mjpeg", ".y4m"),
        ".gif",
    )
)
"""Ends of files that are taken for videos where nothing else says what they are."""

PICTURE_SUFFIXES = frozenset(
    {*(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")}
)
"""Ends of files that are taken for still pictures."""

FEATURES_SUFFIX = ".safetensors"
"""End of a file that holds the features of one video."""

PICKLED_SUFFIX = ".pkl"
"""The same, as Video-ChatGPT's scripts write it."""

FEATURES_SUFFIXES = frozenset({FEATURES_SUFFIX, PICKLED_SUFFIX})

_SETTLED_SECONDS = 2.0


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing, also when the process dies in the middle.

    One writer at a time: the next one writes over a draft that a killed one left behind.
    """
    write_lines(path, [text], end="")


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file for programs and people, or nothing."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: Iterable[str], *, end: str = "\n") -> None:
    """Write a whole file, line by line, or nothing; see :func:`write_atomically`."""
    with whole_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}{end}" for line in lines)


def refuse_foreign(paths: Iterable[Path], *, force: bool) -> None:
    """Keep files where nothing says that kinema wrote them; called before any work.

    Args:
        paths: of files that would be written.
        force: they may be lost.

    Raises:
        UsageError: one is there and holds something.
    """
    for path in () if force else paths:
        if path.is_file() and path.stat().st_size:
            raise UsageError(
                f"{path} is there already, and nothing says that kinema wrote it.",
                hint="Choose another --output, or --force to write over it.",
            )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft to write to; it becomes ``path`` at the end, and goes where something fails."""
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft folder to fill; it takes the place of ``folder`` at the end, and goes where it fails.

    What a killed process left of a draft is removed. One writer at a time, see :func:`locked`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within, no other process holds the lock beside this path; waits for one that does."""
    import fcntl  # noqa: PLC0415  not on Windows

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_beside(path: Path) -> int:
    """Take a lock that dies with this process, kept beside the file; returns its descriptor.

    Raises:
        UsageError: another process has it, or nothing can be written there.
    """
    import fcntl  # noqa: PLC0415  not on Windows

    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        raise UsageError(
            f"{path} cannot be written: {problem.strerror}.", hint="Choose another output."
        ) from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            f"Another process works on {path}.", hint="Wait for it, or choose another output."
        ) from None
    return handle


def require_format(path: Path, found: int, known: int, *, hint: str) -> None:
    """Refuse what another version of kinema wrote in a format of its own.

    Args:
        path: of the file or folder.
        found: the number in it; what 0.1.0 wrote has none, which counts as 1.
        known: the number that this version writes.
        hint: what moves it on.

    Raises:
        UsageError: the numbers differ.
    """
    if found != known:
        raise UsageError(
            f"{path} was written by another version of kinema (format {found}, this one has "
            f"{known}).",
            hint=hint,
        )


def stamp_of(path: Path) -> str:
    """Size and time of a file, found without reading it; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


class FileState(NamedTuple):
    """What changes when the content of a file does, found without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    """Of the last change of any kind; nobody can set it, as ``touch`` sets the other time."""
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state of a file.

        Raises:
            OSError: it is not there.
        """
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def is_settled(self) -> bool:
        """Whether a change from now on will show in the times.

        File systems tell times in ticks of milliseconds, up to two seconds on FAT: a file that
        has just been written can change once more and keep them.
        """
        return time.time() - self.mtime_ns / 1e9 > _SETTLED_SECONDS


@contextmanager
def unchanged(path: Path, stamp: str) -> Iterator[None]:
    """Work on a file that must stay what it was.

    Args:
        path: of the file.
        stamp: its :func:`stamp_of` from when the work began; nothing is checked where it is empty.

    Raises:
        SourceChanged: the file was deleted or replaced; also instead of an error about what was
            read of it.
    """
    try:
        yield
    except MediaError:
        _require_unchanged(path, stamp)
        raise
    _require_unchanged(path, stamp)


def _require_unchanged(path: Path, stamp: str) -> None:
    now = stamp_of(path)
    if stamp and now != stamp:
        what = "replaced or written to" if now else "deleted or moved"
        raise SourceChanged(
            f"{path} was {what} while it was being worked on.",
            hint="Leave the files of a run where they are, and run it again.",
        ) from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, as 64 hexadecimal digits.

    A process reads a file again only when its size, a time of change or its inode is another.

    Raises:
        OSError: the file is not there, or cannot be read.
    """
    state = FileState.of(path)
    read = _sha256 if state.is_settled else _sha256.__wrapped__
    return read(str(path.absolute()), state)


@lru_cache(maxsize=1 << 16)
def _sha256(path: str, _state: FileState) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
