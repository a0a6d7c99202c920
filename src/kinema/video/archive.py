"""Members of tar files, read in place: ``shard.tar::clip.mp4``.

A member is named as the archive spells it, with or without ``./``. In a WebDataset shard the key of
a sample is enough: ``shard.tar::0001`` is the video among ``0001.mp4``, ``0001.json``, …
"""

from __future__ import annotations

import difflib
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NoReturn

from kinema.errors import MediaNotFound, NotMedia
from kinema.files import VIDEO_SUFFIXES
from kinema.video.byte_range import ByteRange, OpenFile

SEPARATOR = "::"

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")

Extent = tuple[int, int]
"""First byte and number of bytes of a member inside its archive."""


def split_member(text: str) -> tuple[str, str] | None:
    """``("shard.tar", "clip.mp4")`` of ``shard.tar::clip.mp4``; None when it is no such name.

    A file that is called so itself is no member.
    """
    archive, separator, member = text.partition(f".tar{SEPARATOR}")
    if not separator or os.path.lexists(os.path.expanduser(text)):
        return None
    return f"{archive}.tar", member


def open_member(file: OpenFile, archive: str, member: str) -> ByteRange:
    """One member as a range of the archive.

    Raises:
        MediaNotFound: no such member; says which one is near.
        NotMedia: no tar file, or a compressed one.
    """
    members = list_members(file, archive)
    return file.range(*members[find_member(members, archive, member)])


def find_member(members: Mapping[str, Extent], archive: str, member: str) -> str:
    """The name under which a member or the one video of a sample is known.

    Raises:
        MediaNotFound: no such member; says which one is near.
    """
    name = tidy(member)
    if name in members:
        return name
    videos = [other for other in members if _key(other) == name and _is_video(other)]
    if len(videos) == 1:
        return videos[0]
    near = difflib.get_close_matches(name, members, n=1, cutoff=0.5)
    raise MediaNotFound(
        f"{archive} has no member {member!r}.",
        hint=f"Did you mean {near[0]!r}?" if near else f"It holds {_contents(members)}.",
    )


def refuse_whole(file: OpenFile, archive: str) -> NoReturn:
    """An archive was given where one video is wanted.

    Raises:
        NotMedia: says how its members are named.
    """
    members = list_members(file, archive)
    example = next((m for m in members if _is_video(m)), next(iter(members), "clip.mp4"))
    raise NotMedia(
        f"{archive} is an archive of {_contents(members)}.",
        hint=f"Name one of them: {archive}{SEPARATOR}{example}",
    )


def _contents(members: Mapping[str, Extent]) -> str:
    return f"{len(members)} files, such as {next(iter(members))}" if members else "no file"


def _key(member: str) -> str:
    """What the files of one WebDataset sample share: all up to the first dot of the last part."""
    path = PurePosixPath(member)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def _is_video(member: str) -> bool:
    return PurePosixPath(member).suffix.lower() in VIDEO_SUFFIXES


def tidy(member: str) -> str:
    """A member's name without ``./`` and doubled slashes, as all lookups write it."""
    return str(PurePosixPath(member))


@dataclass(frozen=True)
class _Stamp:
    """One state of one file; equal stamps mean the same members."""

    file: OpenFile = field(compare=False)
    archive: str = field(compare=False)
    identity: tuple[int, int, int, int]


def list_members(file: OpenFile, archive: str) -> Mapping[str, Extent]:
    """Names of the regular files in a tar, in their order, and where their bytes are.

    Raises:
        NotMedia: no tar file, or a compressed one.
    """
    status = os.fstat(file.descriptor)
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    return _index(_Stamp(file, archive, identity))


@lru_cache(maxsize=8)
def _index(stamp: _Stamp) -> Mapping[str, Extent]:
    with stamp.file.range().open() as handle:
        if handle.read(6).startswith(_COMPRESSED):
            raise NotMedia(
                f"{stamp.archive} is compressed, so its members cannot be read in place.",
                hint="Decompress it; videos hardly shrink.",
            )
        handle.seek(0)
        try:
            with tarfile.open(fileobj=handle, mode="r:") as tar:
                regular = (m for m in tar if m.isreg() and not m.issparse())
                return {tidy(m.name): (m.offset_data, m.size) for m in regular}
        except (tarfile.TarError, ValueError, EOFError):
            raise NotMedia(
                f"{stamp.archive} is no tar file.", hint="Check it with tar -t."
            ) from None
