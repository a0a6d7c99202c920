"""Every row of the table of faults has a test."""

from __future__ import annotations

from faults.rows import FAULTS, marked_tests


def test_every_fault_has_a_test() -> None:
    assert sorted(FAULTS) == list(range(1, 26))
    assert [row for row, names in marked_tests().items() if not names] == []
