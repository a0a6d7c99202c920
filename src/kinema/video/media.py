"""What was handed over, before any decoder sees it: a name, its bytes and its budget."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from kinema.errors import (
    DecodeDeadline,
    MediaError,
    NotAFile,
    NotMedia,
    NoVideoStream,
    SourceChanged,
)
from kinema.video.access import Budget
from kinema.video.byte_range import ByteRange

_HEAD_BYTES = 4096
_PACKETS_BETWEEN_LOOKS = 64


@dataclass(frozen=True)
class Media:
    """One file, range or buffer, looked at but not decoded; exactly one of the three is set."""

    name: str
    """What the user would call it."""
    path: Path | None = None
    """A file that holds this and nothing else, and may be opened by its name."""
    data: bytes | None = None
    part: ByteRange | None = None
    """A tar member, a download, or a file that may only be read through its descriptor."""
    track: int | None = None
    """Which video track is meant, from 0; None for the one that players show."""
    budget: Budget = Budget()
    opened_at_seconds: float = field(default_factory=time.monotonic)
    """On the monotonic clock."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Read a file that must stay where it is; one that only grows, as it is recorded, may.

        Raises:
            SourceChanged: it was deleted or replaced inside the context; also instead of an error
                about what was read of it.
        """
        before = self._state()
        try:
            yield
        except (MediaError, OSError) as problem:
            self._require_same(before)
            if isinstance(problem, MediaError):
                raise
            raise NotAFile(
                f"{self.name} cannot be read: {problem.strerror}.", hint="Check the disk."
            ) from None
        self._require_same(before)

    def _state(self) -> tuple[int, int, int] | None:
        """Device, inode and length of a file that is opened by its name."""
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size

    def _require_same(self, before: tuple[int, int, int] | None) -> None:
        now = self._state()
        if before is None or (now and now[:2] == before[:2] and now[2] >= before[2]):
            return
        raise self._changed("replaced" if now else "deleted or moved") from None

    def _changed(self, what: str) -> SourceChanged:
        return SourceChanged(
            f"{self.name} was {what} while it was being read.",
            hint="Leave the file where it is, and read it again.",
        )

    def open(self) -> BinaryIO:
        """A fresh binary handle at the first byte; the caller closes it."""
        if self.data is not None:
            return io.BytesIO(self.data)
        if self.part is not None:
            return self.part.open()
        assert self.path is not None
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            raise self._changed("deleted or moved") from None

    @cached_property
    def size_bytes(self) -> int:
        """Length in bytes."""
        if self.data is not None:
            return len(self.data)
        if self.part is not None:
            return self.part.num_bytes
        assert self.path is not None
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first few kilobytes, for recognising what this is."""
        with self.open() as file:
            return file.read(_HEAD_BYTES)

    def check(self) -> None:
        """Refuse what can be no media, without decoding anything.

        Raises:
            NotMedia: empty, or text such as a saved error page or a playlist.
            NoVideoStream: a sound file.
            TooLarge: more bytes than the budget.
        """
        if self.size_bytes == 0:
            raise NotMedia(f"{self.name} is empty.", hint="Was the download interrupted?")
        self.budget.check_bytes(self.name, self.size_bytes)
        head = self.head.lstrip(b"\xef\xbb\xbf \t\r\n")
        for opening in _PAGES:
            if head[: len(opening)].lower() == opening:
                raise NotMedia(
                    f"{self.name} starts with '{opening.decode()}': probably an error page.",
                    hint="Open it in a text editor and fetch the video again.",
                )
        if _is_text(self.head) and not self.head.startswith(_TEXT_LIKE):
            # Playlists are text as well: none may make the decoder open what it names.
            raise NotMedia(f"{self.name} is a text file.", hint="Give the video itself.")
        if self.head.startswith(_SOUND_FILES) or self.head[8:12] == b"WAVE":
            raise NoVideoStream(f"{self.name} holds only audio.", hint="Give a video.")

    def check_clock(self) -> None:
        """Raise ``DecodeDeadline`` when the budget's time has passed."""
        allowed = self.budget.seconds
        if allowed is not None and time.monotonic() - self.opened_at_seconds > allowed:
            raise DecodeDeadline(
                f"Reading {self.name} took longer than {allowed:g} s.",
                hint="Ask for fewer frames or a shorter range, or allow more time.",
            )

    def metered(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The same packets, as many and as long as the budget allows.

        Raises:
            TooLarge: more packets than the budget.
            DecodeDeadline: the budget's time has passed.
        """
        for count, packet in enumerate(packets, start=1):
            self.budget.check_packets(self.name, count)
            if count % _PACKETS_BETWEEN_LOOKS == 0:
                self.check_clock()
            yield packet


_PAGES = (b"<html", b"<!doctype", b"<?xml", b"<head", b"<body")
_TEXT_LIKE = b"YUV4MPEG2 "
"""Begins a video whose header is a line of text, and whose bright pictures may read like one."""
_SOUND_FILES = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")


def _is_text(head: bytes) -> bool:
    try:
        text = head[:512].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n" for c in text)
