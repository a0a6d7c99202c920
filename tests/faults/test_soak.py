"""Row 30, the reader's part: what hundreds of reads leave behind is nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults.soak import Holdings, growth_bytes, soak_apart

READS = 140
ALLOWED_BYTES = 2 << 20
"""25 KiB a read; a leak of 64 is seen."""


def things(seen: list[Holdings]) -> set[Holdings]:
    """What is held besides memory, each different state once."""
    return {replace(moment, resident_bytes=0) for moment in seen}


@pytest.mark.parametrize("reader", ["here", "worker"])
def test_reading_again_and_again_holds_on_to_nothing(reader: str) -> None:
    seen = soak_apart(reads=READS, reader=reader)
    assert len(things(seen)) == 1, things(seen)
    assert growth_bytes(seen) < ALLOWED_BYTES, seen
    assert seen[0].children == (reader == "worker")


def test_a_leak_would_be_seen() -> None:
    assert growth_bytes(soak_apart(reads=READS, reader="leaking")) > ALLOWED_BYTES
