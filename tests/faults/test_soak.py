"""Row 30, the reader's part: what hundreds of reads leave behind is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil

from faults.soak import growth_bytes, make_files, soak
from kinema.video import Workers


def test_reading_again_and_again_holds_on_to_nothing(tmp_path: Path) -> None:
    seen = soak(make_files(tmp_path), reads=140)
    assert {replace(holdings, resident_bytes=0) for holdings in seen[3:]} == {
        replace(seen[3], resident_bytes=0)
    }
    assert growth_bytes(seen) < 24 << 20


def test_a_worker_that_reads_again_and_again_holds_on_to_nothing(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    with Workers(1) as workers:
        soak(files, reads=30, read=lambda path: workers.load_frames(path, num_frames=8))
        (child,) = psutil.Process().children()
        before = child.num_fds(), child.num_threads()
        seen = soak(files, reads=100, read=lambda path: workers.load_frames(path, num_frames=8))
        assert (child.num_fds(), child.num_threads()) == before
        assert child.memory_info().rss < 600 << 20
    assert len({(h.descriptors, h.threads, h.children) for h in seen}) == 1
    assert growth_bytes(seen) < 24 << 20
