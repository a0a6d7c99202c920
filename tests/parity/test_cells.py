"""A few cells of the table of containers, codecs and fates; ``containers.py`` has all."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.cells import CONTAINERS, FATES, Cell, all_cells, measure, table

FEW = [
    *(Cell("mp4", "h264", fate) for fate in FATES),
    *(Cell("ts", "h264", fate) for fate in ("concatenated", "head lost", "open groups")),
    *(Cell("mkv", "hevc", fate) for fate in ("cut", "head lost", "variable rate")),
    *(Cell("avi", codec, "B-frames") for codec in ("h264", "mpeg4", "xvid")),
    *(Cell("mpg", "mpeg2", fate) for fate in ("whole", "cut", "concatenated")),
    Cell("webm", "vp9", "tail lost"),
    Cell("no container", "h264", "B-frames"),
]
WELL_FORMED = ("whole", "cut", "variable rate", "B-frames", "open groups", "interlaced")


@pytest.mark.needs_program("ffmpeg")
@pytest.mark.parametrize("cell", FEW, ids=str)
def test_a_cell_is_read_as_it_is_played(cell: Cell, tmp_path: Path) -> None:
    verdict = measure(cell, tmp_path)
    if verdict.outcome == "not made":
        pytest.skip(verdict.detail)
    assert verdict.outcome in ("indexed", "front to back"), verdict.detail
    if cell.container in ("mp4", "mkv", "webm", "ts") and cell.fate in WELL_FORMED:
        assert verdict.outcome == "indexed"


def test_the_table_has_hundreds_of_cells_and_a_row_for_each_pair() -> None:
    assert len(list(all_cells())) > 300
    rows = table([]).splitlines()[2:]
    assert len(rows) == sum(len(codecs) for codecs in CONTAINERS.values())
