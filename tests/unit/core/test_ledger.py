from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from kinema.errors import UsageError
from kinema.ledger import Ledger

SETTINGS = {"model": "echo", "fps": 1}
UNITS = [(f"u{i}", {"n": i}) for i in range(5)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.sqlite"


def test_units_are_claimed_once_and_in_the_order_they_were_added(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        assert ledger.add(UNITS) == 5
        assert ledger.add([*UNITS, ("new", {})]) == 1
        assert [unit.id for unit in ledger.claim(3)] == ["u0", "u1", "u2"]
        assert [unit.id for unit in ledger.claim(9)] == ["u3", "u4", "new"]
        assert ledger.claim() == []


def test_results_and_states_are_there_after_opening_again(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
        ledger.claim(4)
        ledger.finish("u0", {"caption": "ä"})
        ledger.fail("u1", "broken")
        ledger.skip("u2", "seen before")
        ledger.quarantine("u3", "dangerous")
    with Ledger(path, settings=SETTINGS) as ledger:
        states = {unit.id: unit.state for unit in ledger.units()}
        assert list(states.values()) == ["done", "failed", "skipped", "quarantined", "todo"]
        assert [unit.result for unit in ledger.units("done")] == [{"caption": "ä"}]
        assert ledger.counts()["todo"] == 1


def test_a_batch_is_settled_whole_or_not_at_all(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
        ledger.claim(3)
        with pytest.raises(TypeError):
            ledger.settle({"u0": 1, "u1": object()}, {})
        assert ledger.counts() == {"running": 3, "todo": 2}
        ledger.settle({"u0": 1, "u2": 3}, {"u1": "broken"})
        assert [unit.state for unit in ledger.units()] == ["done", "failed", "done", "todo", "todo"]
        assert [unit.result for unit in ledger.units("done")] == [1, 3]


def test_a_failed_unit_is_tried_again_while_attempts_are_left(path):
    with Ledger(path, settings=SETTINGS, max_attempts=2) as ledger:
        ledger.add(UNITS[:1])
        for expected in ("todo", "failed"):
            ledger.claim()
            ledger.fail("u0", "busy", retry=True)
            (unit,) = ledger.units()
            assert unit.state == expected


def test_what_was_running_at_a_crash_waits_again_and_is_given_up_the_second_time(path):
    for expected in ("todo", "quarantined"):
        with Ledger(path, settings=SETTINGS, max_attempts=2) as ledger:
            ledger.add(UNITS[:1])
            ledger.claim()
        with Ledger(path, settings=SETTINGS, max_attempts=2) as ledger:
            (unit,) = ledger.units()
            assert unit.state == expected


def test_other_settings_are_refused_by_name_unless_the_job_starts_over(path):
    with Ledger(path, settings=SETTINGS) as ledger:
        ledger.add(UNITS)
    with pytest.raises(UsageError, match="fps"):
        Ledger(path, settings=SETTINGS | {"fps": 2})
    with Ledger(path, settings=SETTINGS | {"fps": 2}, restart=True) as ledger:
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
from kinema.ledger import Ledger
folder = Path(sys.argv[1])
with Ledger(folder / "job.sqlite", settings={}, max_attempts=10**6) as ledger:
    ledger.add((f"u{i}", i) for i in range(60))
    while units := ledger.claim(3):
        for unit in units:
            time.sleep(0.002)
            ledger.finish(unit.id, unit.payload ** 2)
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
