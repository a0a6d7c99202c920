"""From labelled videos to checked training data, by the real commands."""

from __future__ import annotations

import json
import os
import pickle
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.cli.app import run
from small_actions import MILK, TEA, make_breakfast
from support.towers import make_clip

pytestmark = pytest.mark.slow


def kinema(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kinema", *words], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Breakfast-like data set, one bad video in it, and a tower."""
    folder = tmp_path_factory.mktemp("work")
    make_breakfast(folder, activities={"tea": TEA, "milk": MILK})
    make_clip(folder / "tower")
    return folder


def extract(work: Path, *words: str) -> list[str]:
    root = str(work / "BreakfastII_15fps_qvga_sync")
    return ["features", root, "-o", str(work / "features"), "--tower", str(work / "tower"), *words]


def test_the_whole_way_from_videos_to_checked_data(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = work / "BreakfastII_15fps_qvga_sync"
    bad = root / "P16/cam01/P16_bad.avi"
    bad.write_bytes(b"this is no video" * 50)
    words = ["--kind", "layers", "--layers", "0", "--layers", "-1", "--num-frames", "6"]
    words += ["--pattern", "{person}/{camera}/{video}.avi", "--augment", "flip", "--json"]

    done = kinema(*extract(work, *words))
    assert done.returncode == 3, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 13
    assert [r["video"] for r in records if "error" in r] == ["P16/cam01/P16_bad.avi"]
    assert "P16_bad.avi" in done.stderr
    bad.unlink()

    data = work / "data"
    words = ["--features", str(work / "features"), "--mode", "augment", "--repeat-segments", "2"]
    done = kinema("data", "convert", "breakfast", str(root), "-o", str(data), *words)
    assert done.returncode == 0, done.stderr
    assert "6 recordings to train on, 6 held out." in done.stderr

    assert run(["data", "check", str(data / "train.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bad"] == []
    with (data / "train.jsonl").open("a") as file:
        file.write('{"messages": []}\n')
    assert run(["data", "check", str(data / "train.jsonl")]) == 3
    assert f"{data / 'train.jsonl'}:13: " in capsys.readouterr().out

    assert run(["data", "stats", str(data / "test.jsonl"), "--plot", str(work / "t.png")]) == 0
    assert "pour_water" in capsys.readouterr().out
    assert (work / "t.png").stat().st_size > 500

    words = [str(work / "features"), str(work / "pkl"), "--name", "{video}_{camera}"]
    assert run(["features", "convert", *words]) == 0
    rows = pickle.loads((work / "pkl/P16_tea_flip_cam01.pkl").read_bytes())
    assert (rows.shape, rows.dtype) == ((6, 2, 32), "float16")


def test_a_terminal_shows_a_bar_and_what_is_left(work: Path) -> None:
    leader, follower = pty.openpty()
    words = extract(work, "--num-frames", "2", "--force", "--limit", "3")
    with subprocess.Popen(
        [sys.executable, "-m", "kinema", *words], stdout=subprocess.DEVNULL, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while piece := os.read(leader, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        os.close(leader)
    assert process.returncode == 0, shown
    assert "[########----------------] 1 of 3 videos, 0:0" in shown.decode()
    assert "Features of 3 videos" in shown.decode()
