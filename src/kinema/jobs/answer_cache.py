"""What the model has answered: a question with the same key is never asked twice.

Several processes may share one file; a key holds everything that decides its answer, so one run's
answer is any run's answer.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any, Self

from kinema.errors import UsageError
from kinema.files import require_format
from kinema.jobs.ledger import disk_errors

_PATIENCE_SECONDS = 60.0
_FORMAT = 2
"""Of the file, in SQLite's user_version: 1 held captions alone, and had no number."""


class AnswerCache:
    """JSON values by key in a SQLite file, safe for threads and processes.

    Args:
        path: the file; made when it is not there.
        anew: forget what is in it.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                path, isolation_level=None, timeout=_PATIENCE_SECONDS, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing; only a crash of the machine may cost the last answers.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._check_format()
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answer (id TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
            if anew:
                self._database.execute("DELETE FROM answer")
        except sqlite3.Error as problem:
            raise UsageError(
                f"{path} cannot be opened: {problem}.", hint="Choose another file."
            ) from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _check_format(self) -> None:
        (tables,) = self._database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if found == _FORMAT:
            return  # nothing is written, so that who opens waits for no other process
        if tables:
            self._database.close()
            hint = "Give another file, or remove this one to ask everything again."
            require_format(self._path, found or 1, _FORMAT, hint=hint)
        self._database.execute(f"PRAGMA user_version = {_FORMAT}")

    def get(self, key: str) -> Any:
        """The value of a key, None where there is none."""
        with disk_errors(self._path), self._lock:
            row = self._database.execute("SELECT value FROM answer WHERE id = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Keep a value; the first one of a key stays."""
        with disk_errors(self._path), self._lock:
            self._database.execute(
                "INSERT OR IGNORE INTO answer VALUES (?, ?)",
                (key, json.dumps(value, ensure_ascii=False, sort_keys=True)),
            )
