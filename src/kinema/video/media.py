"""What was handed over, before any decoder sees it: a name and where its bytes are."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from kinema.errors import MediaNotFound, NotAFile, NotMedia, UsageError
from kinema.types import Source

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Media:
    """One file or buffer, looked at but not decoded.

    Raises nothing itself; :func:`open_media` does the looking.
    """

    name: str
    """What the user would call it."""
    path: Path | None = None
    data: bytes | None = None

    def open(self) -> BinaryIO:
        """A fresh binary handle at the first byte; the caller closes it."""
        if self.data is not None:
            return io.BytesIO(self.data)
        assert self.path is not None
        return self.path.open("rb")

    @cached_property
    def size_bytes(self) -> int:
        """Length of the file or buffer."""
        if self.data is not None:
            return len(self.data)
        assert self.path is not None
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first few kilobytes, for recognising what this is."""
        with self.open() as file:
            return file.read(_HEAD_BYTES)


def open_media(source: Source) -> Media:
    """Look at a path, ``file://`` address or bytes and refuse what can be no media.

    Raises:
        MediaNotFound: nothing is there.
        NotAFile: a directory, device or pipe, or not readable.
        NotMedia: empty, or text such as a saved error page.
    """
    media = _locate(source)
    if media.size_bytes == 0:
        raise NotMedia(f"{media.name} is empty.", hint="Was the download interrupted?")
    _refuse_text(media)
    return media


def _locate(source: Source) -> Media:
    if isinstance(source, bytes | bytearray):
        return Media(name="<bytes>", data=bytes(source))
    if not isinstance(source, str | Path):
        raise UsageError(
            f"A {type(source).__name__} is no video.",
            hint="Give a path, bytes, Frames or uint8[T, H, W, 3].",
        )
    path = _as_path(source)
    _check_file(path)
    return Media(name=str(source), path=path)


def _as_path(source: str | Path) -> Path:
    text = str(source)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    if "\0" in text:
        raise MediaNotFound("The path holds a NUL character.", hint="Check the name.")
    return Path(source).expanduser()


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise MediaNotFound(f"There is no file {path}.", hint="Check the path.") from None
    except OSError as error:
        raise NotAFile(f"{path} cannot be opened: {error.strerror}.", hint="Check it.") from None
    if stat.S_ISDIR(mode):
        raise NotAFile(f"{path} is a directory.", hint="Give the video file inside it.")
    if not stat.S_ISREG(mode):
        raise NotAFile(f"{path} is a device or pipe, not a file.", hint="Give a regular file.")
    if not os.access(path, os.R_OK):
        raise NotAFile(f"{path} cannot be read: permission denied.", hint="Check its owner.")


_PAGES = (b"<html", b"<!doctype", b"<?xml", b"<head", b"<body")


def _refuse_text(media: Media) -> None:
    head = media.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for opening in _PAGES:
        if head[: len(opening)].lower() == opening:
            raise NotMedia(
                f"{media.name} starts with '{opening.decode()}': probably an error page.",
                hint="Open it in a text editor and fetch the video again.",
            )
    if _is_text(media.head):
        # Playlists are text as well: none may make the decoder open what it names.
        raise NotMedia(f"{media.name} is a text file.", hint="Give the video itself.")


def _is_text(head: bytes) -> bool:
    try:
        text = head[:512].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n" for c in text)
