"""What becomes of the records, the ledger and the file when something goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import kinema.tasks.answer
from kinema.cli.app import run
from kinema.errors import (
    AccessRefused,
    DecoderCrashed,
    EngineDied,
    EngineUnreachable,
    KinemaError,
    OutOfMemory,
    RequestRefused,
    Unfinished,
)
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.messages import Request
from kinema.tasks.answer import AnswerJob, AnswerOptions
from kinema.tasks.models import Model, find_model
from kinema.video import Workers
from support.clips import make_clip
from support.faulty import FaultyEngine, faulty_model

RECORDS = [{"text": word} for word in ("one", "two", "three", "four", "five", "six")]
POISONED = [*RECORDS[:2], {"text": "poison"}, *RECORDS[2:]]


def nothing(batch: Sequence[Request]) -> None:
    pass


def on_poison(problem: KinemaError) -> Callable[[Sequence[Request]], None]:
    def before(batch: Sequence[Request]) -> None:
        if any("poison" in request.prompt.text for request in batch):
            raise problem

    return before


class Files:
    """A prompt file, its output, and what the ledger says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out.jsonl"

    def job(self, records: Sequence[Any], model: Model, **changes: Any) -> AnswerJob:
        prompts = self.folder / "p.jsonl"
        prompts.write_text("\n".join(map(json.dumps, records)))
        options = AnswerOptions(media_base_path=self.folder, **changes.pop("options", {}))
        return AnswerJob(prompts, self.output, model, options=options, **changes)

    @property
    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    @property
    def answered(self) -> list[str]:
        return [record["text"] for record in self.written if record["error"] is None]

    def states(self, job: AnswerJob) -> dict[str, str]:
        """State of each record's unit, by the words of the record."""
        path = self.folder / ".out.jsonl.ledger"
        with Ledger(path, settings=job._decided) as ledger:
            return {unit.payload["text"]: unit.state for unit in ledger.units()}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_medium_that_cannot_be_used_fails_its_record_alone(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(files.folder / "fine.mp4", num_frames=5)
    (files.folder / "text.mp4").write_text("this is no video" * 50)
    make_clip(files.folder / "hostile.mp4", num_frames=6)
    load = Workers.load_frames

    def crashing(workers: Workers, source: Any, **settings: Any) -> Any:
        if "hostile" in str(source):
            raise DecoderCrashed("The decoder died.")
        return load(workers, source, **settings)

    monkeypatch.setattr(Workers, "load_frames", crashing)
    names = ("fine", "text", "absent", "hostile")
    records = [{"video": f"{name}.mp4", "text": f"<video> {name}"} for name in names]
    job = files.job(records, find_model("echo"))

    assert job.run() == 3
    assert files.states(job) == {
        "<video> fine": "done",
        "<video> text": "failed",
        "<video> absent": "failed",
        "<video> hostile": "quarantined",
    }
    errors = [record["error"] for record in files.written]
    assert errors[0] is None
    assert "text file" in errors[1]
    assert "There is no file" in errors[2]
    assert errors[3] == "The decoder died."


def test_a_request_that_is_too_long_fails_alone(files: Files) -> None:
    records = [*RECORDS, {"text": "word " * 900}]
    job = files.job(records, faulty_model(lambda: FaultyEngine(nothing, context_length=800)))

    assert job.run() == 1
    assert files.answered == [record["text"] for record in RECORDS]
    assert "tokens and the model has 800" in files.written[-1]["error"]
    assert list(files.states(job).values()).count("failed") == 1


def test_too_little_memory_for_a_batch_makes_batches_smaller(files: Files) -> None:
    sizes: list[int] = []

    def before(batch: Sequence[Request]) -> None:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise OutOfMemory("The device ran out of memory.")

    job = files.job(RECORDS, faulty_model(lambda: FaultyEngine(before)))

    assert job.run() == 0
    assert max(sizes) > 1
    assert sizes.count(1) == len(RECORDS)
    assert set(files.states(job).values()) == {"done"}


@pytest.mark.parametrize(
    "problem",
    [
        OutOfMemory("The device ran out of memory."),
        EngineDied("The engine died."),
        EngineUnreachable("The server is out of reach."),
        AccessRefused("The server does not accept the key."),
    ],
)
def test_an_engine_that_answers_nothing_ends_the_run_and_blames_no_record(
    files: Files, problem: KinemaError
) -> None:
    def before(batch: Sequence[Request]) -> None:
        raise problem

    job = files.job(RECORDS, faulty_model(lambda: FaultyEngine(before)))

    with pytest.raises(Unfinished, match="6 records are still to do"):
        job.run()

    assert set(files.states(job).values()) == {"todo"}
    assert [record["text"] for record in files.written] == [r["text"] for r in RECORDS]
    for record in files.written:
        assert record["pred_answer"] is None
        assert record["error"] == f"Still to do; the run stopped: {problem}"

    again = files.job(RECORDS, faulty_model(lambda: FaultyEngine(nothing)))
    assert again.run() == 0
    assert len(files.answered) == 6


def test_what_was_answered_before_the_engine_failed_is_kept(files: Files) -> None:
    batches: list[Sequence[Request]] = []

    def before(batch: Sequence[Request]) -> None:
        batches.append(batch)
        if len(batches) > 1:
            raise EngineUnreachable("The server is out of reach.")

    records = [{"text": f"question {i}"} for i in range(200)]
    job = files.job(records, faulty_model(lambda: FaultyEngine(before)))

    with pytest.raises(Unfinished, match="records are still to do"):
        job.run()

    first = [record["text"] for record in records[: len(batches[0])]]
    assert files.answered == first
    assert [record["text"] for record in files.written] == [r["text"] for r in records]
    assert list(files.states(job).values()).count("done") == len(first)


def test_a_full_disk_ends_the_run_and_loses_no_answer(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Ledger.finish
    finished: list[str] = []

    def filling_up(ledger: Ledger, unit: Unit, outcome: Outcome) -> None:
        if len(finished) == 2:
            raise KinemaError("The ledger cannot be written: disk full.")
        finished.append(unit.id)
        finish(ledger, unit, outcome)

    monkeypatch.setattr(Ledger, "finish", filling_up)
    job = files.job(RECORDS, find_model("echo"))
    with pytest.raises(Unfinished, match="4 records are still to do"):
        job.run()
    monkeypatch.undo()
    assert sorted(files.states(job).values()) == ["done"] * 2 + ["todo"] * 4
    assert job.run() == 0


def test_failed_records_are_tried_again_on_request(files: Files) -> None:
    problem = RequestRefused("The server does not take this.")
    files.job(POISONED, faulty_model(lambda: FaultyEngine(on_poison(problem)))).run()
    healthy = faulty_model(lambda: FaultyEngine(nothing))

    assert files.job(POISONED, healthy).run() == 1
    assert files.job(POISONED, healthy, retry_failed=True).run() == 0
    assert len(files.answered) == 7


def test_records_of_an_earlier_file_wait_for_another_time(files: Files) -> None:
    def before(batch: Sequence[Request]) -> None:
        raise EngineUnreachable("The server is out of reach.")

    job = files.job(RECORDS, faulty_model(lambda: FaultyEngine(before)))
    with pytest.raises(Unfinished):
        job.run()

    asked: list[str] = []

    def noting(batch: Sequence[Request]) -> None:
        asked.extend(request.conversation.messages[-1].text for request in batch)

    healthy = faulty_model(lambda: FaultyEngine(noting))
    assert files.job(RECORDS[:2], healthy).run() == 0
    assert sorted(asked) == ["one", "two"]
    assert files.job(RECORDS, healthy).run() == 0
    assert len(asked) == 6


def test_an_unfinished_run_ends_the_command_with_four(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def before(batch: Sequence[Request]) -> None:
        raise OutOfMemory("The device ran out of memory.", hint="Use fewer frames.")

    prompts = files.folder / "p.jsonl"
    prompts.write_text("\n".join(map(json.dumps, RECORDS)))
    monkeypatch.setattr(
        "kinema.cli.answer.find_model",
        lambda *_, **__: faulty_model(lambda: FaultyEngine(before)),
    )
    assert run(["answer", str(prompts), "-o", str(files.output)]) == 4
    said = capsys.readouterr().err
    assert "6 records are still to do" in said
    assert "Run the same command again to go on." in said
    assert len(files.written) == 6


def test_files_are_looked_at_before_a_model_is(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loading(*_: Any, **__: Any) -> Model:
        raise AssertionError("a model was looked for")

    monkeypatch.setattr("kinema.cli.answer.find_model", loading)
    empty = files.folder / "p.jsonl"
    assert run(["answer", str(empty), "-o", str(files.output)]) == 2
    empty.write_text("\n")
    assert run(["answer", str(empty), "-o", str(files.output)]) == 2
    assert "holds no record" in capsys.readouterr().err
    assert [path.name for path in files.folder.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": "folder"},
        {"quantization": "bnb-4bit"},
        {"attn": "eager"},
        {"served_model": "other"},
        {"dtype": "bfloat16"},
    ],
)
def test_whatever_decides_an_answer_is_in_its_key(files: Files, change: dict[str, Any]) -> None:
    model = find_model("echo")
    plain = files.job(RECORDS, model)
    changed = files.job(RECORDS, model, settings=kinema.tasks.answer.EngineSettings(**change))
    batched = files.job(RECORDS, model, settings=kinema.tasks.answer.EngineSettings(batch_size=2))
    assert changed._key != plain._key
    assert batched._key == plain._key
