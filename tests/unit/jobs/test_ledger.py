from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from kinema.errors import (
    DecodeDeadline,
    DecoderCrashed,
    FetchFailed,
    NotMedia,
    NoVideoStream,
    UsageError,
)
from kinema.jobs.ledger import Ledger, Outcome

SETTINGS = {"model": "echo", "fps": 1}
UNITS = [(f"u{i}", {"n": i}) for i in range(5)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.sqlite"


def test_units_are_claimed_once_and_in_the_order_they_were_added(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        assert ledger.add(UNITS) == 5
        assert ledger.add([*UNITS, ("new", {})]) == 1
        claimed = [ledger.claim().id for _ in range(6)]
        assert claimed == ["u0", "u1", "u2", "u3", "u4", "new"]
        assert ledger.claim() is None


def test_every_outcome_is_kept_with_its_state(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
        units = [ledger.claim() for _ in range(4)]
        ledger.finish(units[0], Outcome({"caption": "ä"}))
        ledger.finish(units[1], Outcome({"caption": ""}, is_partial=True))
        ledger.fail(units[2], NoVideoStream("only sound", hint="Give a video."))
        ledger.fail(units[3], NotMedia("nonsense"))
    with Ledger(path, settings=SETTINGS) as ledger:
        found = {unit.id: (unit.state, unit.result, unit.error) for unit in ledger.units()}
        assert found == {
            "u0": ("done", {"caption": "ä"}, None),
            "u1": ("partial", {"caption": ""}, None),
            "u2": ("skipped", None, "only sound. Give a video."),
            "u3": ("failed", None, "nonsense"),
            "u4": ("todo", None, None),
        }
        assert ledger.reopen("failed", "partial") == 2
        assert ledger.counts() == {"done": 1, "skipped": 1, "todo": 3}


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        (DecodeDeadline("too slow"), "failed"),
        (FetchFailed("broke off"), "failed"),
        (DecoderCrashed("died"), "quarantined"),
    ],
)
def test_what_may_pass_is_tried_twice_and_then_settled_as_the_error_says(path, problem, state):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS[:1])
        ledger.fail(ledger.claim(), problem)
        assert ledger.get("u0").state == "todo"
        ledger.fail(ledger.claim(), problem)
        assert ledger.get("u0").state == state
        assert ledger.claim() is None


def test_after_a_kill_those_that_ran_are_suspects_and_come_alone(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
        assert [ledger.claim().id for _ in range(3)] == ["u0", "u1", "u2"]
    # Closed with units running, as a kill leaves it.
    with Ledger(path, settings=SETTINGS) as ledger:
        assert ledger.claim().id == "u3"
        suspect = ledger.claim(suspect=True)
        assert suspect.id == "u0"
        ledger.finish(suspect, Outcome(1))
        assert ledger.claim(suspect=True).id == "u1"


def test_many_kills_of_many_units_at_once_blame_none_of_them(path):
    for _ in range(40):
        with Ledger(path, settings=SETTINGS) as ledger:
            ledger.add(UNITS)
            while ledger.claim(suspect=True) or ledger.claim():
                pass
    with Ledger(path, settings=SETTINGS) as ledger:
        assert ledger.counts() == {"todo": 5}


def test_a_unit_that_is_alone_whenever_the_process_is_killed_is_given_up(path):
    states = []
    for _ in range(26):
        with Ledger(path, settings=SETTINGS) as ledger:
            ledger.add(UNITS[:1])
            states.append(ledger.get("u0").state)
            ledger.claim(suspect=True) or ledger.claim()
    assert states == ["todo"] * 25 + ["quarantined"]


def test_what_is_given_back_is_not_held_against_a_unit(path):
    for _ in range(30):
        with Ledger(path, settings=SETTINGS) as ledger:
            ledger.add(UNITS[:1])
            assert ledger.claim().id == "u0"
            ledger.give_back()


def test_settings_may_change_while_nothing_has_an_outcome(path):
    with Ledger(path, settings=SETTINGS | {"base_url": "mistyped"}) as ledger:
        ledger.add(UNITS)
        ledger.claim()
    with Ledger(path, settings=SETTINGS) as ledger:
        assert ledger.counts() == {}


def test_other_settings_are_refused_or_start_over(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
        ledger.finish(ledger.claim(), Outcome(1))
    with pytest.raises(UsageError, match=r"other settings \(fps\)"):
        Ledger(path, settings=SETTINGS | {"fps": 2})
    with Ledger(path, settings=SETTINGS | {"fps": 2}, restart=True) as ledger:
        assert ledger.counts() == {}


def test_a_ledger_of_the_first_version_is_refused_by_name(path):
    with closing(sqlite3.connect(path)) as old:  # the tables of 0.1.0
        old.executescript(
            "CREATE TABLE job (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
            "CREATE TABLE unit (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT"
            " NOT NULL DEFAULT 'todo', attempts INTEGER NOT NULL DEFAULT 0, payload TEXT NOT NULL,"
            " result TEXT, error TEXT);"
            "INSERT INTO unit (id, payload) VALUES ('u0', '{}');"
        )
    with pytest.raises(UsageError, match=r"another version of kinema \(format 1") as refused:
        Ledger(path, settings=SETTINGS)
    assert "force" in refused.value.hint
    with Ledger(path, settings=SETTINGS, restart=True) as ledger:
        assert ledger.counts() == {}


def test_two_processes_never_share_a_job(path):
    with Ledger(path, settings=SETTINGS), pytest.raises(UsageError, match="Another process"):
        Ledger(path, settings=SETTINGS)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        Ledger(tmp_path / "nowhere" / "job.sqlite", settings=SETTINGS)


JOB = """
import sys, time
from pathlib import Path
from kinema.files import write_atomically
from kinema.jobs.ledger import Ledger, Outcome
folder = Path(sys.argv[1])
with Ledger(folder / "job.sqlite", settings={}) as ledger:
    ledger.add((f"u{i}", i) for i in range(60))
    while unit := ledger.claim(suspect=True) or ledger.claim():
        time.sleep(0.002)
        ledger.finish(unit, Outcome(unit.payload ** 2))
    text = "".join(f"{unit.id} {unit.result}\\n" for unit in ledger.units("done"))
write_atomically(folder / "out.txt", text)
"""


def test_a_job_killed_at_random_points_ends_with_the_same_bytes(tmp_path):
    words = [sys.executable, "-c", JOB, str(tmp_path)]
    chance = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(words)
        time.sleep(0.1 + chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words, check=True)
    expected = "".join(f"u{i} {i**2}\n" for i in range(60))
    assert (tmp_path / "out.txt").read_text() == expected
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
