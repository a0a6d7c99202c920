"""``kinema eval`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.layouts import LAYOUTS, breakfast_chat, egoschema, own


def kinema(*words: object):
    return subprocess.run(
        [sys.executable, "-m", "kinema", "eval", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    own(tmp_path / "data")
    return tmp_path / "data"


def test_two_models_and_their_blind_baselines_share_one_table(data, tmp_path):
    output = tmp_path / "out"
    done = kinema("jsonl", data, "--model", "echo", "--blind", "--num-frames", 2, "-o", output)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split("  ")[0] == "METRIC"
    assert "echo without the video" in lines[0]
    assert lines[1].startswith("accuracy")
    assert f"wrote {output}/report.html" in done.stderr
    again = kinema("rescore", output, "--json")
    records = [json.loads(line) for line in again.stdout.splitlines()]
    assert [r["run"]["blind"] for r in records] == [False, True]
    compared = kinema("compare", output / "echo", output / "echo+blind")
    assert compared.returncode == 0
    assert "accuracy" in compared.stdout


def test_the_forks_command_is_one_line_on_its_own_layout(tmp_path):
    breakfast_chat(tmp_path / "data")
    done = kinema("breakfast-chat", tmp_path / "data", "-m", "echo", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "per_video_frame_accuracy" in done.stdout
    assert len(list((tmp_path / "out" / "echo" / "timelines").glob("*.png"))) == 2


def test_a_video_that_is_missing_makes_the_exit_status_partial(data, tmp_path):
    (data / "own.jsonl").write_text('{"video": "no.mp4", "question": "x?", "answer": "y"}\n')
    done = kinema("jsonl", data, "-m", "echo", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["errors"] == {"not_found": 1}
    assert kinema("check", "jsonl", data).returncode == 3


def test_check_says_what_is_there_before_a_model_is_loaded(data):
    done = kinema("check", "jsonl", data)
    assert done.returncode == 0
    assert "1 found, 0 missing" in done.stdout


def test_a_submission_is_written_and_never_scored(tmp_path):
    egoschema(tmp_path / "data")
    done = kinema(
        *("egoschema", tmp_path / "data", "--split", "full", "-m", "echo", "-o", tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    assert "submission" in done.stdout
    submission = json.loads((tmp_path / "out" / "echo" / "submission.json").read_text())
    assert set(submission) == {"u0", "u1", "u2"}


def test_every_benchmark_is_listed_with_its_files():
    rows = [json.loads(line) for line in kinema("list", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == sorted(LAYOUTS, key=[r["name"] for r in rows].index)
    assert all(row["layout"] for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mvbnch", "."], "mvbench"),
        (["mvbench", "nowhere"], "nothing is downloaded"),
        (["jsonl", ".", "--limit", "0"], "at least 1"),
        (["jsonl", ".", "--judge", "http://localhost:1/v1"], "--judge-model"),
        (["rescore", "."], "no evaluation"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_do(words, said, tmp_path):
    done = kinema(*words, *([] if words[0] == "rescore" else ["-m", "echo", "-o", tmp_path]))
    assert done.returncode == 2
    assert said in done.stderr
