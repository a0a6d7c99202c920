"""Members of tar files, read in place: ``shard.tar::clip.mp4``."""

from __future__ import annotations

import difflib
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from kinema.errors import MediaNotFound, NotMedia
from kinema.video.byte_range import ByteRange, OpenFile

SEPARATOR = "::"

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")

Extent = tuple[int, int]
"""First byte and number of bytes of a member inside its archive."""


def split_member(text: str) -> tuple[str, str] | None:
    """``("shard.tar", "clip.mp4")`` of ``shard.tar::clip.mp4``; None when it is no such name."""
    archive, separator, member = text.partition(f".tar{SEPARATOR}")
    return (f"{archive}.tar", member) if separator else None


def open_member(file: OpenFile, archive: str, member: str) -> ByteRange:
    """One member as a range of the archive.

    Raises:
        MediaNotFound: no such member; says which one is near.
        NotMedia: no tar file, or a compressed one.
    """
    members = list_members(file, archive)
    start_byte, num_bytes = members[find_member(members, archive, member)]
    return file.range(start_byte, num_bytes)


def find_member(members: Mapping[str, Extent], archive: str, member: str) -> str:
    """The name under which a member is known; a leading ``./`` makes no difference.

    Raises:
        MediaNotFound: no such member; says which one is near.
    """
    name = tidy(member)
    if name in members:
        return name
    near = difflib.get_close_matches(name, members, n=1, cutoff=0.5)
    known = f"it holds {len(members)} files, such as {next(iter(members))}" if members else "empty"
    raise MediaNotFound(
        f"{archive} has no member {member!r}.",
        hint=f"Did you mean {near[0]!r}?" if near else f"The archive is there: {known}.",
    )


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
