"""Bulk work that survives anything: one row a unit, its result committed with its state.

A job is killed at any instant and started again with the same command, and the same bytes come out:
units have deterministic ids, a result and the state "done" are one transaction, and records are
read back in the order the units were added.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from kinema.config import fingerprint
from kinema.errors import KinemaError, UsageError

State = Literal["todo", "running", "done", "failed", "skipped", "quarantined"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unit (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'todo',
    attempts INTEGER NOT NULL DEFAULT 0,
    payload TEXT NOT NULL,
    result TEXT,
    error TEXT
);
CREATE INDEX IF NOT EXISTS unit_state ON unit (state, position);
"""


@dataclass(frozen=True)
class Unit:
    """One piece of work and what became of it."""

    id: str
    payload: Any
    state: State
    attempts: int
    result: Any = None
    error: str | None = None


class Ledger:
    """A job's units in a SQLite file, for one process at a time.

    Args:
        path: the file; made when it is not there.
        settings: everything that decides the results; a job never goes on with other ones.
        max_attempts: a unit that fails, or takes the process down, this often is given up.
        restart: with other settings, forget the old units instead of refusing.

    Raises:
        UsageError: another process works on this file, or its settings differ.
    """

    def __init__(
        self,
        path: Path,
        *,
        settings: Mapping[str, Any],
        max_attempts: int = 2,
        restart: bool = False,
    ) -> None:
        self.path = path
        self._max_attempts = max_attempts
        self._lock = _lock(path)
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            with self._translated():
                self._database.executescript(_SCHEMA)
                self._check_settings(settings, restart)
                self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others work on it."""
        self._database.close()
        os.close(self._lock)

    def add(self, units: Iterable[tuple[str, Any]]) -> int:
        """Add (id, JSON payload) pairs; ids that are there already stay as they are.

        Returns:
            How many were new.
        """
        rows = [(unit_id, _dump(payload)) for unit_id, payload in units]
        before = self._database.total_changes
        with self._transaction():
            self._database.executemany(
                "INSERT OR IGNORE INTO unit (id, payload) VALUES (?, ?)", rows
            )
        return self._database.total_changes - before

    def claim(self, limit: int = 1) -> list[Unit]:
        """Up to ``limit`` units that are still to do, now running, in the order they were added."""
        with self._transaction():
            rows = self._database.execute(
                "UPDATE unit SET state = 'running', attempts = attempts + 1 WHERE position IN "
                "(SELECT position FROM unit WHERE state = 'todo' ORDER BY position LIMIT ?) "
                "RETURNING position, id, payload, state, attempts, result, error",
                (limit,),
            ).fetchall()
        return [_unit(row[1:]) for row in sorted(rows)]

    def finish(self, unit_id: str, result: Any) -> None:
        """The unit is done; its JSON result and its state become true together."""
        self._set(unit_id, "done", result=_dump(result))

    def settle(self, results: Mapping[str, Any], errors: Mapping[str, str]) -> None:
        """Units that ran together are done, or failed for good, in one transaction.

        So a batch is never cut by a crash, and what runs again runs in the same company.
        """
        done = [("done", _dump(result), None, unit) for unit, result in results.items()]
        failed = [("failed", None, error, unit) for unit, error in errors.items()]
        with self._transaction():
            self._database.executemany(
                "UPDATE unit SET state = ?, result = ?, error = ? WHERE id = ?", [*done, *failed]
            )

    def fail(self, unit_id: str, error: str, *, retry: bool = False) -> None:
        """The unit failed: for good, or to be tried again while it has attempts left."""
        again = retry and self._attempts(unit_id) < self._max_attempts
        self._set(unit_id, "todo" if again else "failed", error=error)

    def skip(self, unit_id: str, reason: str) -> None:
        """The unit needs no work."""
        self._set(unit_id, "skipped", error=reason)

    def quarantine(self, unit_id: str, reason: str) -> None:
        """The unit is dangerous and is not tried again."""
        self._set(unit_id, "quarantined", error=reason)

    def reopen(self, state: State) -> int:
        """Units in this state are to do again, with all their attempts; returns how many."""
        with self._transaction():
            return self._database.execute(
                "UPDATE unit SET state = 'todo', attempts = 0, error = NULL WHERE state = ?",
                (state,),
            ).rowcount

    def units(self, state: State | None = None) -> Iterator[Unit]:
        """All units, or those in one state, in the order they were added."""
        where = "WHERE state = ?" if state else ""
        rows = self._database.execute(
            f"SELECT id, payload, state, attempts, result, error FROM unit {where} "
            "ORDER BY position",
            (state,) if state else (),
        )
        return map(_unit, rows)

    def get(self, unit_id: str) -> Unit | None:
        """One unit, None where there is none of this id."""
        row = self._database.execute(
            "SELECT id, payload, state, attempts, result, error FROM unit WHERE id = ?", (unit_id,)
        ).fetchone()
        return None if row is None else _unit(row)

    def counts(self) -> dict[State, int]:
        """How many units are in each state."""
        rows = self._database.execute("SELECT state, COUNT(*) FROM unit GROUP BY state")
        return dict(rows.fetchall())

    def _set(
        self, unit_id: str, state: State, *, result: str | None = None, error: str | None = None
    ) -> None:
        with self._transaction():
            changed = self._database.execute(
                "UPDATE unit SET state = ?, result = ?, error = ? WHERE id = ?",
                (state, result, error, unit_id),
            ).rowcount
        if not changed:
            raise KeyError(unit_id)

    def _attempts(self, unit_id: str) -> int:
        (attempts,) = self._database.execute(
            "SELECT attempts FROM unit WHERE id = ?", (unit_id,)
        ).fetchone()
        return int(attempts)

    def _check_settings(self, settings: Mapping[str, Any], restart: bool) -> None:
        row = self._database.execute("SELECT value FROM job WHERE key = 'settings'").fetchone()
        if row is not None and fingerprint(json.loads(row[0])) != fingerprint(settings):
            if not restart:
                changed = ", ".join(_changed(json.loads(row[0]), settings))
                raise UsageError(
                    f"{self.path} belongs to a job with other settings ({changed}).",
                    hint="Use the same settings, another output, or --force to start over.",
                )
            self._database.execute("DELETE FROM unit")
        self._database.execute(
            "INSERT OR REPLACE INTO job VALUES ('settings', ?)", (_dump(settings),)
        )

    def _recover(self) -> None:
        """Units that were running when the last process died wait again, or are given up."""
        self._database.execute(
            "UPDATE unit SET state = 'quarantined', error = 'took the process down' "
            "WHERE state = 'running' AND attempts >= ?",
            (self._max_attempts,),
        )
        self._database.execute("UPDATE unit SET state = 'todo' WHERE state = 'running'")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as problem:
            raise KinemaError(
                f"{self.path} cannot be written: {problem}.",
                hint="Free some disk space and run the same command again; nothing is lost.",
            ) from problem


def _lock(path: Path) -> int:
    """A lock that dies with this process, kept beside the file."""
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


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in {*before, *now} if before.get(k) != now.get(k))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _unit(row: tuple[Any, ...]) -> Unit:
    unit, payload, state, attempts, result, error = row
    loaded = None if result is None else json.loads(result)
    return Unit(unit, json.loads(payload), state, attempts, loaded, error)
