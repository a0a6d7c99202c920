"""Opening files that strangers name: below the allowed folders, through no link, without a race."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from kinema.errors import PathNotAllowed
from kinema.video.byte_range import OpenFile


def open_below(roots: tuple[Path, ...], path: Path) -> OpenFile:
    """Open a regular file below one of ``roots``.

    The path is resolved, compared by component, and then opened from the root downwards without
    following links: a link that appears after the check leads nowhere.

    Raises:
        PathNotAllowed: it lies elsewhere, is not a regular file, or is not there; the text is the
            same for all of these, so that it tells nothing about the disk.
    """
    with suppress(OSError):  # also where a folder changes while its path is being resolved
        resolved = Path(os.path.realpath(path))
        for root in (Path(os.path.realpath(root)) for root in roots):
            if resolved != root and resolved.is_relative_to(root):
                return _open_beneath(root, resolved.relative_to(root).parts)
    raise PathNotAllowed(
        "This path may not be read here.",
        hint="Give a file below the media folder of this server, or a URL.",
    )


def _open_beneath(root: Path, parts: tuple[str, ...]) -> OpenFile:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = OpenFile(os.open(parts[-1], flags, dir_fd=folder))
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
        raise OSError("not a regular file")
    return file
