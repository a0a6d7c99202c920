"""The runner: one unit's failure is its own, the run's failure leaves every unit to do."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from kinema.errors import (
    DecoderCrashed,
    EngineDied,
    KinemaError,
    MissingPackage,
    NotMedia,
    NoVideoStream,
    RequestRefused,
    Unfinished,
)
from kinema.jobs.ledger import Ledger, Outcome
from kinema.jobs.runner import Cancelled, Stoppable, in_own_loop, run, unfinished


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "job.sqlite", settings={}) as opened:
        opened.add((f"u{i}", i) for i in range(10))
        yield opened


def states(ledger):
    return {unit.id: unit.state for unit in ledger.units()}


def work(ledger, one, *, window=4):
    told = []
    in_own_loop(
        lambda: run(one, ledger=ledger, window=window, report=lambda u, o: told.append((u.id, o)))
    )
    return told


def test_every_unit_is_done_at_most_so_many_at_a_time(ledger):
    under_way, most = set(), []

    async def one(unit):
        under_way.add(unit.id)
        most.append(len(under_way))
        await asyncio.sleep(0.001 * (unit.payload % 3))
        under_way.discard(unit.id)
        return Outcome(unit.payload**2)

    told = work(ledger, one, window=3)
    assert max(most) == 3
    assert [unit.result for unit in ledger.units("done")] == [i**2 for i in range(10)]
    assert sorted(name for name, _ in told) == [f"u{i}" for i in range(10)]


def test_what_is_wrong_with_a_unit_is_settled_by_its_class(ledger):
    problems = {
        1: NotMedia("nonsense"),
        2: NoVideoStream("only sound"),
        3: RequestRefused("too odd"),
        4: DecoderCrashed("died"),
    }
    tries = []

    async def one(unit):
        tries.append(unit.payload)
        if unit.payload in problems:
            raise problems[unit.payload]
        return Outcome("fine", is_partial=unit.payload == 5)

    work(ledger, one)
    found = states(ledger)
    assert [found[f"u{i}"] for i in range(6)] == [
        *("done", "failed", "skipped", "failed", "quarantined", "partial")
    ]
    assert tries.count(4) == 2  # a crash may pass, so it was tried once more
    assert tries.count(1) == 1


@pytest.mark.parametrize(
    "problem", [EngineDied("gone"), MissingPackage("no ray"), KinemaError("?")]
)
def test_what_the_engine_or_the_run_did_leaves_units_to_do(ledger, problem):
    async def one(unit):
        if unit.payload == 3:
            raise problem
        await asyncio.sleep(0 if unit.payload < 3 else 5)
        return Outcome(unit.payload)

    with pytest.raises(type(problem)):
        work(ledger, one)
    found = states(ledger)
    assert [found[f"u{i}"] for i in range(4)] == ["done", "done", "done", "todo"]
    assert set(list(found.values())[4:]) == {"todo"}
    ended = unfinished(problem, ledger)
    assert isinstance(ended, Unfinished)
    assert ended.exit_code == 4
    assert re.search(r"[^.][.?] 7 units are still to do", str(ended))


def test_a_suspect_is_alone(tmp_path):
    with Ledger(tmp_path / "job.sqlite", settings={}) as ledger:
        ledger.add((f"u{i}", i) for i in range(6))
        for _ in range(3):
            ledger.claim()
    under_way, seen = set(), {}

    async def one(unit):
        under_way.add(unit.id)
        await asyncio.sleep(0.005)
        seen[unit.id] = len(under_way)
        under_way.discard(unit.id)
        return Outcome(None)

    with Ledger(tmp_path / "job.sqlite", settings={}) as ledger:
        work(ledger, one)
        assert set(states(ledger).values()) == {"done"}
    assert [seen[f"u{i}"] for i in range(3)] == [1, 1, 1]
    assert max(seen[f"u{i}"] for i in range(3, 6)) == 3


def test_a_job_is_cancelled_from_another_thread(ledger):
    stop = Stoppable()
    begun = threading.Event()

    async def one(unit):
        begun.set()
        await asyncio.sleep(30)
        return Outcome(None)

    threading.Thread(target=lambda: begun.wait(20) and stop.cancel()).start()
    with pytest.raises(Cancelled):
        stop.run(lambda: run(one, ledger=ledger, window=2))
    assert set(states(ledger).values()) == {"todo"}


def test_a_job_that_was_cancelled_before_does_not_begin():
    stop = Stoppable()
    stop.cancel()

    async def never():
        raise AssertionError("it began")

    with pytest.raises(Cancelled):
        stop.run(never)


def test_the_work_never_runs_in_the_callers_loop():
    async def where():
        return asyncio.get_running_loop()

    async def caller():
        return in_own_loop(where) is not asyncio.get_running_loop()

    assert asyncio.run(caller())
