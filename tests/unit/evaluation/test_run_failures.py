"""What an engine or a network does is never a wrong answer: items stay to do, and no score is made.

What is wrong with one item fails that item alone.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from kinema.engines import EngineSettings
from kinema.errors import (
    EngineUnreachable,
    OutOfMemory,
    RequestFailed,
    Unfinished,
    UsageError,
)
from kinema.messages import Request, SamplingParams
from kinema.tasks.evaluate import runs
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.tasks.evaluate.stored import Run, score_run
from kinema.tasks.site import JobSettings
from support.scripted import ScriptedModel
from support.told_server import Server

ITEMS = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions without a video, asked blind."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"video": "a.mp4", "question": f"is it {i}?", "answer": "it"} for i in range(ITEMS)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path):
    def start(model: ScriptedModel | None = None, name: str = "scripted", **options) -> Run:
        if model is not None:
            monkeypatch.setattr(runs, "find_model", lambda *_, **__: model)
        params = SamplingParams(max_new_tokens=8)
        settings = EvalSettings(benchmark="jsonl", data=data, params=params, blind=True)
        return run_benchmark(settings, name, output=tmp_path / "out", **options)

    return start


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "out" / "scripted+blind"


def question_of(request: Request) -> str:
    return request.conversation.messages[-1].text


def test_a_batch_that_runs_out_of_memory_costs_no_answer(start):
    failures = iter(["is it 20?", "is it 20?"])

    def reply(request: Request) -> str:
        if question_of(request) == "is it 20?" and next(failures, None):
            raise OutOfMemory("The device ran out of memory.")
        return "it"

    model = ScriptedModel(reply, batch_size=8)
    found = start(model)
    assert (found.scores.answered, found.scores.items) == (ITEMS, ITEMS)
    assert found.scores.metrics["normalised_match"].score == 100
    assert model.num_opened == 1


def test_a_server_that_is_down_for_a_while_costs_no_answer(start, monkeypatch, tmp_path):
    monkeypatch.setattr("kinema.engines.openai.client._FIRST_PAUSE_SECONDS", 0.001)
    left = [10]

    def reply(body: dict) -> tuple[int, str]:
        left[0] -= 1
        return (200, "it") if left[0] >= 0 else (503, "")

    with Server(reply) as server:
        loading = EngineSettings(base_url=server.address, concurrency=1)
        options = {"name": "scripted", "engine": "openai", "loading": loading}
        with pytest.raises(Unfinished, match="30 items are still to do"):
            start(**options)
        lines = (folder_of(tmp_path) / "predictions.jsonl").read_text().splitlines()
        assert [json.loads(line)["prediction"]["reply"] for line in lines] == ["it"] * 10
        left[0] = 30
        found = start(**options)
    assert left == [0]
    assert found.scores.answered == ITEMS
    assert [record.item.id for record in found.records] == [str(i + 1) for i in range(ITEMS)]


def test_an_item_that_is_too_long_fails_alone(start, data):
    with (data / "q.jsonl").open("a") as file:
        file.write(json.dumps({"video": "a.mp4", "question": "long " * 300, "answer": "it"}) + "\n")
    model = ScriptedModel(lambda request: "it", batch_size=8)
    model.context_length = 200
    found = start(model)
    assert found.scores.errors == {"context_too_long": 1}
    assert found.scores.answered == ITEMS
    assert "The request needs" in found.records[-1].prediction.error


def test_failed_items_are_asked_again_when_that_is_wanted(start):
    def reply(request: Request) -> str:
        if question_of(request) == "is it 7?":
            raise RequestFailed("The model refused.")
        return "it"

    assert start(ScriptedModel(reply)).scores.errors == {"request_failed": 1}
    model = ScriptedModel(lambda request: "it")
    assert start(model).scores.errors == {"request_failed": 1}
    assert model.asked == []
    found = start(model, job=JobSettings(retry_failed=True))
    assert [question_of(request) for request in model.asked] == ["is it 7?"]
    assert found.scores.answered == ITEMS


def test_scores_of_an_earlier_state_go_when_the_run_goes_on(start, tmp_path):
    def refuse(request: Request) -> str:
        raise RequestFailed("The model refused.")

    def die(request: Request) -> str:
        raise EngineUnreachable("The server does not answer.")

    start(ScriptedModel(refuse))
    assert (folder_of(tmp_path) / "results.json").exists()
    with pytest.raises(Unfinished):
        start(ScriptedModel(die), job=JobSettings(retry_failed=True))
    assert not (folder_of(tmp_path) / "results.json").exists()


def test_seconds_stand_beside_the_records(start, tmp_path):
    start(ScriptedModel(lambda request: "it"))
    records, timings = (
        [json.loads(line) for line in (folder_of(tmp_path) / name).read_text().splitlines()]
        for name in ("predictions.jsonl", "timings.jsonl")
    )
    assert "seconds" not in records[0]["prediction"]
    assert [t["id"] for t in timings] == [r["item"]["id"] for r in records]


def test_a_ledger_of_another_version_is_refused_with_what_to_do(start, tmp_path):
    folder_of(tmp_path).mkdir(parents=True)
    with sqlite3.connect(folder_of(tmp_path) / "ledger.sqlite") as database:
        database.execute("CREATE TABLE unit (id TEXT)")
    database.close()
    with pytest.raises(UsageError, match="another version of kinema") as refused:
        start(ScriptedModel(lambda request: "it"))
    assert "force" in refused.value.hint
    again = start(ScriptedModel(lambda request: "it"), job=JobSettings(force=True))
    assert again.scores.answered == ITEMS


def test_a_folder_of_an_earlier_version_is_scored_again(start, tmp_path):
    found = start(ScriptedModel(lambda request: "it"))
    about = {k: v for k, v in found.about.items() if k not in ("format", "to_do")}
    (found.folder / "run.json").write_text(json.dumps(about))
    lines = (found.folder / "predictions.jsonl").read_text().splitlines()
    older = [json.loads(line) for line in lines]
    for record in older:
        record["prediction"]["seconds"] = 1.5
    text = "".join(json.dumps(record) + "\n" for record in older)
    (found.folder / "predictions.jsonl").write_text(text)
    again = score_run(found.folder)
    assert again.scores == found.scores
    (found.folder / "run.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(UsageError, match="later version"):
        score_run(found.folder)
