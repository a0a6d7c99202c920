"""``kinema features`` killed at random points and resumed."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pytest

from support.clips import make_clip
from support.killed import KILLS, Command
from support.towers import make_clip as make_clip_tower

pytestmark = pytest.mark.slow

IMPORTS = "kinema.cli.features, kinema.tasks.features.extraction"


def seen(folder: Path) -> dict[str, bytes]:
    """Every file that users see, by its path; drafts and the ledger are hidden."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_kills_and_a_resumed_run_give_the_same_files(tmp_path: Path) -> None:
    tower = make_clip_tower(tmp_path / "tower")
    (tmp_path / "videos").mkdir()
    for i in range(12):
        make_clip(tmp_path / "videos" / f"video_{i}.mp4", num_frames=12 + i)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"this is no video" * 99)
    words = ["features", str(tmp_path / "videos"), "--tower", str(tower), "--num-frames", "6"]
    words += ["--augment", "flip", "--workers", "1", "-o"]
    with Command(*words, str(tmp_path / "whole"), imports=IMPORTS) as command:
        status, seconds = command.run()
    assert status == 3
    chance = random.Random(0)
    with Command(*words, str(tmp_path / "killed"), imports=IMPORTS) as command:
        kills = 0
        while kills < KILLS:
            status, _ = command.run(kill_after=chance.uniform(0.1, 0.9) * seconds)
            assert status in {3, -signal.SIGKILL}
            kills += status != 3
            if status == 3:  # it got through: begin again, so that all kills fall into the work
                assert seen(tmp_path / "killed") == seen(tmp_path / "whole")
                shutil.rmtree(tmp_path / "killed")
        assert command.run()[0] == 3

    whole = seen(tmp_path / "whole")
    assert len(whole) == 2 * 12 + 1
    assert seen(tmp_path / "killed") == whole
