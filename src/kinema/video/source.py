"""From what the user wrote to :class:`~kinema.video.media.Media`: every form a source may have."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from kinema.errors import MediaNotFound, NotAFile, UsageError
from kinema.types import PictureFolder, Source
from kinema.video.access import LOCAL, Access, Budget
from kinema.video.archive import open_member, refuse_whole, split_member
from kinema.video.byte_range import OpenFile, spool
from kinema.video.data_uri import decode_data_uri, is_data_uri
from kinema.video.fetch import Fetcher
from kinema.video.media import Media
from kinema.video.path_gate import open_below
from kinema.video.url_gate import is_url

_PIECE_BYTES = 1 << 20
_PATH_MAX_CHARACTERS = 4096


def open_media(source: Source, access: Access = LOCAL, *, track: int | None = None) -> Media:
    """Look at a source and refuse what can be no media; nothing is decoded.

    Args:
        source: path, ``file://``, ``http(s)://`` or ``data:`` address, ``shard.tar::member.mp4``,
            bytes, or an open binary file.
        access: what it may reach.
        track: the video track that is meant, from 0; None for the one that players show.

    Raises:
        MediaNotFound: nothing is there.
        NotAFile: a directory, device or pipe, or not readable.
        NotMedia: empty, or text such as a saved error page.
        PathNotAllowed, UrlNotAllowed, FetchFailed, TooLarge: the rules of ``access``.
    """
    budget = access.budget
    if isinstance(source, bytes | bytearray | memoryview):
        media = Media(name="<bytes>", data=bytes(source), budget=budget)
    elif isinstance(source, str | Path | PictureFolder):
        media = _named(str(source), access)
    elif callable(getattr(source, "read", None)):
        part = spool(_read_all(source, budget))  # type: ignore[arg-type]
        media = Media(name=_handle_name(source), part=part, budget=budget)
    else:
        raise UsageError(
            f"A {type(source).__name__} is no video.",
            hint="Give a path, URL, bytes, Frames, uint8[T, H, W, 3] or a list of pictures.",
        )
    media.check()
    return replace(media, track=track)


def _named(text: str, access: Access) -> Media:
    if is_data_uri(text) and not (access.roots is None and _is_file(text)):
        name, data = decode_data_uri(text, access.budget)
        return Media(name=name, data=data, budget=access.budget)
    if is_url(text):
        name, part = Fetcher(access.urls, access.budget).fetch(text)
        return Media(name=name, part=part, budget=access.budget)
    if text[:7].lower() == "file://":
        text = unquote(urlsplit(text).path)
    if (member := split_member(text)) is not None:
        archive, name = member
        file = open_local(Path(archive).expanduser(), access)
        return Media(name=text, part=open_member(file, archive, name), budget=access.budget)
    path = as_path(text)
    if path.suffix == ".tar":
        refuse_whole(open_local(path, access), path.name)
    if access.roots is not None:
        part = open_below(access.roots, path).range()
        return Media(name=path.name, part=part, budget=access.budget)
    check_file(path)
    return Media(name=text, path=path, budget=access.budget)


def _is_file(text: str) -> bool:
    """Whether a file is called so, whatever else the name reads like."""
    return len(text) <= _PATH_MAX_CHARACTERS and os.path.isfile(os.path.expanduser(text))


def as_path(text: str) -> Path:
    """A path as the user wrote it, ``~`` replaced.

    Raises:
        MediaNotFound: no file can have such a name.
    """
    if "\0" in text or len(text) > _PATH_MAX_CHARACTERS:
        raise MediaNotFound("No file can have this name.", hint="Check the path.")
    return Path(text).expanduser()


def open_local(path: Path, access: Access) -> OpenFile:
    """Open a file of this machine, below the allowed folders where there are such.

    Raises:
        MediaError: it may not be read, or is not a regular file.
    """
    if access.roots is not None:
        return open_below(access.roots, path)
    check_file(path)
    return OpenFile(os.open(path, os.O_RDONLY))


def check_file(path: Path) -> None:
    """Refuse everything but a regular file that can be read.

    Raises:
        MediaNotFound: nothing is there.
        NotAFile: a directory, device or pipe, or not readable.
    """
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


def _read_all(handle: BinaryIO, budget: Budget) -> Iterator[bytes]:
    num_bytes = 0
    while piece := handle.read(_PIECE_BYTES):
        num_bytes += len(piece)
        budget.check_bytes(_handle_name(handle), num_bytes)
        yield piece


def _handle_name(handle: object) -> str:
    name = getattr(handle, "name", None)
    return Path(name).name if isinstance(name, str) else "<file>"
