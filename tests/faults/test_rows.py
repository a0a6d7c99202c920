"""Every row of the table of faults has a test."""

from __future__ import annotations

from faults.rows import FAULTS, tests_by_row


def test_every_fault_has_a_test() -> None:
    assert sorted(FAULTS) == list(range(1, 26))
    assert [row for row, names in tests_by_row().items() if not names] == []
