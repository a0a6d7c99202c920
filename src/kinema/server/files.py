"""Uploaded files: kept on disk while the server runs, asked about by their id."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from kinema.errors import TooLarge
from kinema.server.errors import NotFound
from kinema.server.limits import MEBIBYTE, ServerSettings

_PIECE_BYTES = 1 << 20
_ID = re.compile(r"file-[0-9a-f]{24}")

Read = Callable[[int], Awaitable[bytes]]


@dataclass(frozen=True)
class StoredFile:
    """One upload."""

    id: str
    name: str
    """What its sender called it; never used as a path."""
    num_bytes: int
    purpose: str
    created_at: int
    """Seconds since 1970."""
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """Files below one folder, within a budget.

    Args:
        folder: exists, belongs to the server, and is removed by whoever made it.
        settings: how long one file and all of them may be.
    """

    def __init__(self, folder: Path, settings: ServerSettings) -> None:
        self._folder = folder
        self._most_bytes = settings.max_file_mib * MEBIBYTE
        self._most_stored_bytes = settings.stored_files_mib * MEBIBYTE
        self._files: dict[str, StoredFile] = {}
        self._stored_bytes = 0

    async def add(self, name: str, purpose: str, read: Read) -> StoredFile:
        """Store what ``read`` gives, piece by piece; nothing stays of an upload that fails.

        Raises:
            TooLarge: longer than one file or all of them may be.
        """
        file_id = f"file-{secrets.token_hex(12)}"
        path = self._folder / file_id
        num_bytes = 0
        try:
            async with await anyio.open_file(path, "xb") as file:
                while piece := await read(_PIECE_BYTES):
                    num_bytes += len(piece)
                    self._stored_bytes += len(piece)
                    self._check(num_bytes)
                    await file.write(piece)
        except BaseException:
            self._stored_bytes -= num_bytes
            path.unlink(missing_ok=True)
            raise
        stored = StoredFile(file_id, name, num_bytes, purpose, int(time.time()), path)
        self._files[file_id] = stored
        return stored

    def get(self, file_id: str) -> StoredFile:
        """The file with this id.

        Raises:
            NotFound: there is none.
        """
        if not _ID.fullmatch(file_id) or file_id not in self._files:
            raise NotFound(
                "There is no file with this id.", hint="Upload it to /v1/files; see the list there."
            )
        return self._files[file_id]

    def has(self, file_id: str) -> bool:
        """Whether there is such a file."""
        return file_id in self._files

    def name_of(self, path: Path) -> str | None:
        """What the sender of the file at ``path`` called it; None where it is none of ours."""
        stored = self._files.get(path.name)
        return stored.name if stored is not None and stored.path == path else None

    def list(self, *, after: str | None = None) -> list[StoredFile]:
        """All files, oldest first; those behind one of them where its id is given.

        Raises:
            NotFound: there is none with this id.
        """
        stored = list(self._files.values())
        return stored if after is None else stored[stored.index(self.get(after)) + 1 :]

    def delete(self, file_id: str) -> None:
        """Remove a file.

        Raises:
            NotFound: there is none.
        """
        stored = self.get(file_id)
        del self._files[file_id]
        self._stored_bytes -= stored.num_bytes
        stored.path.unlink(missing_ok=True)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._most_bytes:
            raise TooLarge(
                f"The file is longer than {self._most_bytes // MEBIBYTE} MiB.",
                hint="Cut or re-encode it.",
            )
        if self._stored_bytes > self._most_stored_bytes:
            raise TooLarge(
                "The server's room for files is full.", hint="Delete files that are not needed."
            )
