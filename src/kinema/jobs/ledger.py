"""Bulk work that survives anything: one row a unit, its result committed with its state.

A job is killed at any instant and started again with the same command, and the same bytes come out:
units have deterministic ids, a result and the state "done" are one transaction, and records are
read back in the order the units were added.

A unit that was being worked on when the process was killed is a suspect: it is worked on again
alone, and only a kill while it is alone counts against it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from kinema.config import fingerprint
from kinema.errors import KinemaError, UsageError
from kinema.files import lock_beside, require_format

State = Literal["todo", "running", "done", "partial", "failed", "skipped", "quarantined"]

_FORMAT = 2
"""Of the file, in SQLite's user_version; 0.1.0 wrote none, which reads as 0."""
_TRIES = 2
"""How often a unit is tried whose error may pass."""
_MOST_KILLS = 25
"""A unit that was alone when so many processes were killed is given up."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS unit (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'todo',
    attempts INTEGER NOT NULL DEFAULT 0,
    kills INTEGER NOT NULL DEFAULT 0,
    suspect INTEGER NOT NULL DEFAULT 0,
    payload TEXT NOT NULL,
    result TEXT,
    error TEXT,
    code TEXT
);
CREATE INDEX IF NOT EXISTS unit_state ON unit (state, suspect, position);
"""
_COLUMNS = "id, payload, state, attempts, result, error, code"


@dataclass(frozen=True)
class Outcome:
    """What the work on a unit made."""

    result: Any
    """Ready for JSON."""
    is_partial: bool = False
    """Something in it failed, so that it is tried again where failures are."""


@dataclass(frozen=True)
class Unit:
    """One piece of work and what became of it."""

    id: str
    payload: Any
    state: State
    attempts: int
    """Times that it ended with an error."""
    result: Any = None
    error: str | None = None
    code: str | None = None
    """Of the error that it ended with, as :mod:`kinema.errors` names it."""

    @property
    def may_try_again(self) -> bool:
        """Whether it is tried once more when it ends with an error that may pass."""
        return self.attempts + 1 < _TRIES


class Ledger:
    """A job's units in a SQLite file, for one process at a time.

    Args:
        path: the file; made when it is not there.
        settings: everything that decides the results; a job never goes on with other ones.
        restart: with other settings, forget the old units instead of refusing. Where none of them
            has an outcome, they are forgotten without being asked.
        anew: forget the old units whatever their settings are.
        noun: what sentences call the units.

    Raises:
        UsageError: another process works on this file, its settings differ, or another version of
            kinema wrote it.
    """

    def __init__(
        self,
        path: Path,
        *,
        settings: Mapping[str, Any],
        restart: bool = False,
        anew: bool = False,
        noun: str = "units",
    ) -> None:
        self.path = path
        self.noun = noun
        self.found = ""
        """What earlier runs left of the units that were entered, in a sentence."""
        self._forgotten = ""
        self._wanted: frozenset[str] = frozenset()
        self._lock = lock_beside(path)
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            # A kill loses nothing that was committed. A power cut may lose the last commits, never
            # half of one, and their units are then done once more; a disk flush for each is slow.
            self._database.execute("PRAGMA synchronous=NORMAL")
            with disk_errors(self.path):
                self._check_format(restart or anew)
                self._database.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")
                self._check_settings(settings, restart or anew)
                if anew and self._database.execute("DELETE FROM unit").rowcount:
                    self._forgotten = self._forgotten or "the same settings"
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

    def enter(self, units: Iterable[tuple[str, Any]], *, retry_failed: bool = False) -> None:
        """Take up the units of a run: (id, JSON payload) pairs.

        Units of other runs that are still to do are skipped until a run asks for them. What an
        error settled as skipped stays so.

        Args:
            units: in order; ids that are there already stay as they are.
            retry_failed: units that failed in an earlier run, or that an error skipped, are to do
                again.
        """
        entered = list(units)
        self._wanted = frozenset(unit_id for unit_id, _ in entered)
        with self._transaction():
            # An error leaves its code; what another run did not ask for has none.
            self._database.execute(
                "UPDATE unit SET state = 'todo', error = NULL "
                "WHERE state = 'skipped' AND code IS NULL"
            )
        self.found = self._sentence(Counter(self.states().values()), len(self._wanted))
        self.add(entered)
        if retry_failed:
            self.reopen("failed", "partial", "quarantined", "skipped")
        for unit in [unit for unit in self.units("todo") if unit.id not in self._wanted]:
            self.skip(unit.id, "not asked for in this run")

    def states(self) -> dict[str, State]:
        """The state of each unit that was entered, by its id."""
        rows = self._database.execute("SELECT id, state FROM unit ORDER BY position")
        return {unit_id: state for unit_id, state in rows if unit_id in self._wanted}

    def _sentence(self, found: Counter[State], of: int) -> str:
        if self._forgotten:
            return f"{self.path} held results of {self._forgotten}; they are forgotten."
        if not found:
            return ""
        failed = found["failed"] + found["partial"] + found["quarantined"]
        left = of - found["done"] - failed - found["skipped"]
        skipped = f"{found['skipped']} skipped, " if found["skipped"] else ""
        return (
            f"{self.path} has {found['done']} of {of} {self.noun} from earlier runs, "
            f"{failed} failed, {skipped}{left} to do."
        )

    def claim(self, *, suspect: bool = False) -> Unit | None:
        """The next unit that is to do, now running; None when there is none.

        Args:
            suspect: one that may have taken an earlier process down; else only others.
        """
        with self._transaction():
            row = self._database.execute(
                "UPDATE unit SET state = 'running' WHERE position = (SELECT position FROM unit "
                "WHERE state = 'todo' AND suspect = ? ORDER BY position LIMIT 1) "
                f"RETURNING {_COLUMNS}",
                (int(suspect),),
            ).fetchone()
        return None if row is None else _unit(row)

    def finish(self, unit: Unit, outcome: Outcome) -> None:
        """The unit is done; its result and its state become true together."""
        state: State = "partial" if outcome.is_partial else "done"
        self._set(unit.id, state, result=_dump(outcome.result))

    def fail(self, unit: Unit, problem: KinemaError) -> None:
        """The unit ended with an error: to be tried once more, or settled as the error says."""
        again = problem.may_pass and unit.may_try_again
        state: State = "todo" if again else problem.settles
        self._set(
            unit.id, state, error=problem.sentence, code=problem.code, attempts=unit.attempts + 1
        )

    def skip(self, unit_id: str, reason: str) -> None:
        """The unit needs no work."""
        self._set(unit_id, "skipped", error=reason)

    def redo(self, unit_id: str, reason: str) -> None:
        """What the unit made is gone; it is to do again."""
        self._set(unit_id, "todo", error=reason)

    def give_back(self) -> None:
        """Units that were begun and have no outcome are to do again, with nothing held against."""
        with self._transaction():
            self._database.execute("UPDATE unit SET state = 'todo' WHERE state = 'running'")

    def reopen(self, *states: State) -> int:
        """Units in these states are to do again, with all their attempts; returns how many."""
        marks = ", ".join("?" * len(states))
        with self._transaction():
            return self._database.execute(
                "UPDATE unit SET state = 'todo', attempts = 0, kills = 0, error = NULL, "
                "code = NULL "
                f"WHERE state IN ({marks})",
                states,
            ).rowcount

    def units(self, state: State | None = None) -> Iterator[Unit]:
        """All units, or those in one state, in the order they were added."""
        where = "WHERE state = ?" if state else ""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM unit {where} ORDER BY position",
            (state,) if state else (),
        )
        return map(_unit, rows)

    def get(self, unit_id: str) -> Unit | None:
        """One unit, None where there is none of this id."""
        row = self._database.execute(
            f"SELECT {_COLUMNS} FROM unit WHERE id = ?", (unit_id,)
        ).fetchone()
        return None if row is None else _unit(row)

    def counts(self) -> dict[State, int]:
        """How many units are in each state."""
        rows = self._database.execute("SELECT state, COUNT(*) FROM unit GROUP BY state")
        return dict(rows.fetchall())

    @property
    def num_ended(self) -> int:
        """How many units are done, failed or skipped."""
        counts = self.counts()
        return sum(counts.values()) - counts.get("todo", 0) - counts.get("running", 0)

    def _set(
        self,
        unit_id: str,
        state: State,
        *,
        result: str | None = None,
        error: str | None = None,
        code: str | None = None,
        attempts: int = 0,
    ) -> None:
        with self._transaction():
            changed = self._database.execute(
                "UPDATE unit SET state = ?, result = ?, error = ?, code = ?, attempts = ?, "
                "suspect = 0 WHERE id = ?",
                (state, result, error, code, attempts, unit_id),
            ).rowcount
        if not changed:
            raise KeyError(unit_id)

    def _check_format(self, restart: bool) -> None:
        """Refuse a file of another version of kinema; on request, forget what is in it."""
        (tables,) = self._database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if not tables or found == _FORMAT:
            return
        if not restart:
            hint = "Use another output, or --force to start over here."
            require_format(self.path, found or 1, _FORMAT, hint=hint)
        self._forgotten = f"another version of kinema (format {found or 1})"
        self._database.executescript("DROP TABLE IF EXISTS unit; DROP TABLE IF EXISTS job;")

    def _check_settings(self, settings: Mapping[str, Any], restart: bool) -> None:
        row = self._database.execute("SELECT value FROM job WHERE key = 'settings'").fetchone()
        before = {} if row is None else json.loads(row[0])
        if row is not None and fingerprint(before) != fingerprint(settings):
            ended = "state NOT IN ('todo', 'running')"
            if self._database.execute(f"SELECT 1 FROM unit WHERE {ended} LIMIT 1").fetchone():
                changed = _changed(before, json.loads(_dump(settings)))
                self._forgotten = f"other settings ({', '.join(changed)})"
                if not restart:
                    raise UsageError(
                        f"{self.path} belongs to a job with {self._forgotten}.",
                        hint="Use the same settings, another output, or --force to start over.",
                    )
            self._database.execute("DELETE FROM unit")
        self._database.execute(
            "INSERT OR REPLACE INTO job VALUES ('settings', ?)", (_dump(settings),)
        )

    def _recover(self) -> None:
        """Units that were running when the last process was killed are suspects now.

        A kill counts against a unit that was alone; among several, it cannot be known which it was.
        """
        (running,) = self._database.execute(
            "SELECT COUNT(*) FROM unit WHERE state = 'running'"
        ).fetchone()
        if running == 1:
            self._database.execute("UPDATE unit SET kills = kills + 1 WHERE state = 'running'")
        self._database.execute(
            "UPDATE unit SET state = 'quarantined', error = 'took the process down' "
            "WHERE state = 'running' AND kills >= ?",
            (_MOST_KILLS,),
        )
        self._database.execute(
            "UPDATE unit SET state = 'todo', suspect = 1 WHERE state = 'running'"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with disk_errors(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """SQLite's errors in a file that was opened, as ours: the disk is full, or not there."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        raise KinemaError(
            f"{path} cannot be written: {problem}.",
            hint="Free some disk space and run the same command again; nothing is lost.",
        ) from problem


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ, without those of what they are grouped in."""
    names: set[str] = set()
    for key in {*before, *now}:
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            names.update(_changed(one, other))
        elif one != other:
            names.add(key)
    return sorted(names)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _unit(row: tuple[Any, ...]) -> Unit:
    unit, payload, state, attempts, result, error, code = row
    loaded = None if result is None else json.loads(result)
    return Unit(unit, json.loads(payload), state, attempts, loaded, error, code)
