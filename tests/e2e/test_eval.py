"""``kinema eval`` as a user runs it."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.tasks.evaluate.runs import run_name
from support.action_layouts import breakfast_chat
from support.layouts import LAYOUTS, egoschema, own

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


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


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in the fork's own format: ``base/`` and ``model.bin``."""
    from support.videolm import make_fork, make_llava_lightning

    folder = tmp_path_factory.mktemp("fork")
    make_llava_lightning(folder)
    make_fork(folder)
    return folder


def test_the_documented_line_for_the_forks_command_runs_on_its_layout(fork, tmp_path):
    (line,) = [x for x in DOCS.read_text().splitlines() if x.startswith("kinema eval breakfast-c")]
    breakfast_chat(tmp_path / "data")
    places = {
        "BreakfastII_15fps_qvga_sync": tmp_path / "data",
        "video-chatgpt:LLaVA-7B-Lightening-v1-1": f"video-chatgpt:{fork / 'base'}",
        "breakfast_finetuned/model.bin": fork / "model.bin",
        "1024": 24,  # tokens of a model that never stops by itself
    }
    words = [places.get(word, word) for word in shlex.split(line)[2:]]
    done = kinema(*words, "--seed", "0", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for metric in ("mof", "edit", "f1_50", "per_video_frame_accuracy"):
        assert metric in done.stdout
    (folder,) = [path.parent for path in (tmp_path / "out").glob("*/predictions.jsonl")]
    records = [json.loads(x) for x in (folder / "predictions.jsonl").read_text().splitlines()]
    # The fork looks at exactly as many frames as its tables have rows.
    assert [len(r["prediction"]["frames"][0]["indices"]) for r in records] == [10, 10]
    assert len(list((folder / "timelines").glob("*.png"))) == 2


def test_the_reports_command_makes_the_same_predictions(data, family_folder, tmp_path):
    model = str(family_folder("llava-onevision"))
    first, second = tmp_path / "first", tmp_path / "second"
    wanted = ["--fps", "2", "--end", "0.8", "--temperature", "0.5", "--stop", "a b", "--limit", "2"]
    wanted += ["--preset", "lmms-eval", "--dtype", "float32", "--seed", "3", "--blind"]
    assert kinema("jsonl", data, "-m", model, *wanted, "-o", first).returncode == 0
    command = (first / "report.md").read_text().split("```sh\n")[1].split("\n```")[0]
    words = [str(second) if word == str(first) else word for word in shlex.split(command)]
    done = kinema(*words[2:])
    assert done.returncode == 0, done.stderr
    for run in (run_name(model, blind=blind) for blind in (False, True)):
        for name in ("predictions.jsonl", "run.json", "results.json"):
            assert (second / run / name).read_bytes() == (first / run / name).read_bytes()


def test_a_video_that_is_missing_makes_the_exit_status_partial(data, tmp_path):
    (data / "own.jsonl").write_text('{"video": "no.mp4", "question": "x?", "answer": "y"}\n')
    done = kinema("jsonl", data, "-m", "echo", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["errors"] == {"not_found": 1}
    assert kinema("check", "jsonl", data).returncode == 3


def test_a_server_that_does_not_answer_leaves_everything_to_do(data, tmp_path):
    words = ["jsonl", data, "-m", "known", "--engine", "openai", "-o", tmp_path / "out", "--json"]
    with socket.socket() as bound:  # a port at which nobody listens
        bound.bind(("127.0.0.1", 0))
        done = kinema(*words, "--base-url", f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
    assert done.returncode == 4
    assert done.stderr.count("5 items are still to do") == 1
    assert done.stderr.count("The run stopped") == 1
    assert done.stdout == ""
    assert kinema("rescore", tmp_path / "out").returncode == 4


def test_check_says_that_a_number_of_items_is_not_the_official_one(tmp_path):
    egoschema(tmp_path)
    done = kinema("check", "egoschema", tmp_path)
    assert done.returncode == 3
    assert "There are 2 items; this split officially has 500." in done.stderr


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


def test_a_model_that_cannot_be_measured_does_not_hold_up_the_others(data, tmp_path):
    output = tmp_path / "out"
    models = ("-m", tmp_path / "nowhere", "-m", "echo")
    done = kinema("jsonl", data, *models, "--num-frames", 2, "-o", output)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0].split() == ["METRIC", "echo"]
    assert "nowhere was not measured: " in done.stderr
    assert "Not measured: " in done.stderr.splitlines()[-2]
    report = (output / "report.md").read_text()
    assert "Not measured: " in report
    assert "nowhere" in report
    assert (output / "echo" / "results.json").is_file()


def test_quiet_prints_nothing_and_records_only_when_they_are_asked_for(data, tmp_path):
    words = ("jsonl", data, "-m", "echo", "--num-frames", 2, "-o", tmp_path / "out", "-q")
    quiet = kinema(*words)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    (record,) = [json.loads(line) for line in kinema(*words, "--json").stdout.splitlines()]
    assert record["run"]["model"] == "echo"


def test_what_is_missing_for_several_scores_is_said_once(data, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_WORDNET", str(tmp_path / "nowhere"))
    done = kinema("jsonl", data, "-m", "echo", "--blind", "--num-frames", 2, "-o", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WordNet") == 1


def test_every_benchmark_is_listed_with_its_files():
    rows = [json.loads(line) for line in kinema("list", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == sorted(LAYOUTS, key=[r["name"] for r in rows].index)
    assert all(row["layout"] for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mvbnch", "."], "mvbench"),
        (["mvbench", "nowhere"], "nothing is downloaded"),
        (["jsonl", ".", "--limit", "0"], "--limit is 0; it must be 1 or more"),
        (["jsonl", ".", "--judge", "http://localhost:1/v1"], "--judge-model"),
        (["rescore", "."], "no evaluation"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_do(words, said, tmp_path):
    done = kinema(*words, *([] if words[0] == "rescore" else ["-m", "echo", "-o", tmp_path]))
    assert done.returncode == 2
    assert said in done.stderr


def test_wrong_rows_are_listed_by_check_and_refused_before_a_model_is_loaded(tmp_path):
    rows = ['{"question": "x", "task": "tango"}', '{"question": "x", "answer": "y"}', "{"]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(rows))
    checked = kinema("check", "jsonl", path)
    assert checked.returncode == 3
    assert "2 rows" in checked.stderr
    assert 'line 1: task is "tango"; it must be one of choice, text' in checked.stdout
    assert 'line 3: row is "{"; it must be a JSON object' in checked.stdout
    found = json.loads(kinema("check", "jsonl", path, "--json").stdout)
    assert [(row["line"], row["field"], row["value"]) for row in found["wrong_rows"]] == [
        (1, "task", "tango"),
        (3, "row", "{"),
    ]
    assert found["items"] == 1
    refused = kinema("jsonl", path, "-m", "nowhere/nothing", "-o", tmp_path / "out")
    assert refused.returncode == 2
    assert f'{path}, line 1: task is "tango"' in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_report_that_another_program_wrote_is_kept(data, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "report.md").write_text("my notes")
    words = ("jsonl", data, "-m", "echo", "--num-frames", 2, "-o", output, "-q")
    refused = kinema(*words)
    assert refused.returncode == 2
    assert "report.md is there already" in refused.stderr
    assert (output / "report.md").read_text() == "my notes"
    assert kinema(*words, "--force").returncode == 0
