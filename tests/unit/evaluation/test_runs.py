"""Running a benchmark: denominators, records, resuming, presets, ranking, reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.errors import MissingCapability, RequestFailed, UsageError
from kinema.evaluation.benchmarks import BENCHMARKS
from kinema.jobs.progress import Progress
from kinema.messages import Completion, Request, SamplingParams, TokenLogprob
from kinema.tasks.evaluate import runs
from kinema.tasks.evaluate.checking import check_benchmark
from kinema.tasks.evaluate.reporting import (
    command_of,
    compare_runs,
    safe_name,
    write_report,
    write_timelines,
)
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.tasks.evaluate.stored import find_runs, read_records, score_run
from kinema.tasks.site import JobSettings
from kinema.types import FrameSampling
from support.action_layouts import breakfast_chat
from support.clips import make_clip
from support.layouts import mvbench, perception_test
from support.scripted import Reply, ScriptedModel, asks_about, perfect

TWO_FRAMES = FrameSampling(num_frames=2)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run a benchmark on a scripted model; returns the run and the model."""

    def start(benchmark: str, data: Path, reply: Reply, *, name="scripted", **more):
        model = ScriptedModel(reply, name)
        monkeypatch.setattr(runs, "find_model", lambda *_, **__: model)
        named = ("output", "loading", "job", "on_progress")
        options = {k: more.pop(k) for k in named if k in more}
        settings = EvalSettings(benchmark=benchmark, data=data, **{"sampling": TWO_FRAMES, **more})
        output = options.pop("output", tmp_path / "out")
        return run_benchmark(settings, name, output=output, **options), model

    return start


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    perception_test(tmp_path / "data")
    return tmp_path / "data"


def always(text: str) -> Reply:
    return lambda request: text


def test_a_perfect_model_has_full_marks_and_complete_records(run, questions):
    found, _ = run(
        "perceptiontest",
        questions,
        perfect(BENCHMARKS["perceptiontest"], questions),
        params=SamplingParams(max_new_tokens=7),
    )
    assert found.scores.metrics["accuracy"].score == 100
    assert found.complete
    for line in (found.folder / "predictions.jsonl").read_text().splitlines():
        record = json.loads(line)
        prediction = record["prediction"]
        assert prediction["frames"][0]["indices"] == [6, 18]
        assert prediction["frames"][0]["seconds"] == [0.24, 0.72]
        assert prediction["sampling"] == {"num_frames": 2}
        assert prediction["params"]["max_new_tokens"] == 7
        assert prediction["model"] == "scripted"
        assert record["item"]["question"] in prediction["prompt"]
        assert record["answer"]["rule"] == "lone"
        assert record["answer"]["parsed"] == prediction["reply"]


def test_scores_are_made_again_without_model_or_data(run, questions):
    found, _ = run("perceptiontest", questions, always("A"))
    before = (found.folder / "results.json").read_bytes()
    for path in sorted(questions.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (found.folder / "results.json").unlink()
    assert score_run(found.folder).scores == found.scores
    assert (found.folder / "results.json").read_bytes() == before


def test_a_missing_and_a_broken_video_are_counted_wrong_and_named(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "broken.mp4").write_text("<html>not found</html>")
    rows = [{"video": v, "question": "x?", "answer": "y"} for v in ("broken.mp4", "none.mp4")]
    (data / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, model = run("jsonl", data, always("y"))
    assert found.scores.errors == {"not_media": 1, "not_found": 1}
    assert found.scores.metrics["normalised_match"].score == 0
    assert found.scores.items == 2
    assert model.asked == []
    assert not found.complete


def test_a_video_that_is_deleted_in_mid_run_is_named_so(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_clip(data / name, num_frames=10)
    rows = [{"video": v, "question": f"{v}?", "answer": "y"} for v in ("a.mp4", "b.mp4")]
    (data / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reply(request: Request) -> str:
        (data / "a.mp4").unlink(missing_ok=True)
        return "y"

    found, _ = run("jsonl", data, reply)
    assert found.scores.errors == {"source_changed": 1}
    records = {r.item.video: r.prediction for r in read_records(found.folder / "predictions.jsonl")}
    assert "a.mp4 was deleted or moved while it was being worked on" in records["a.mp4"].error


def test_a_request_that_fails_costs_its_own_question(run, questions):
    def reply(request: Request) -> str:
        if "video_0" in request.media[0].frames.source:
            raise RequestFailed("The model refused.")
        return "B"

    found, model = run("perceptiontest", questions, reply)
    assert found.scores.errors == {"request_failed": 1}
    assert found.scores.metrics["accuracy"].score == 50
    assert len(model.asked) == 2
    (failed,) = [r.prediction for r in found.records if r.prediction.error]
    assert (failed.reply, failed.error) == (None, "The model refused.")
    assert failed.prompt


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(run, questions, tmp_path):
    whole, _ = run("perceptiontest", questions, always("A"), output=tmp_path / "whole")

    done: list[str] = []

    def interrupt(progress: Progress) -> None:
        if progress.unit is not None:
            done.append(progress.unit.id)
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run("perceptiontest", questions, always("A"), output=cut, on_progress=interrupt)
    resumed, model = run("perceptiontest", questions, always("A"), output=cut)
    (asked,) = model.asked
    (left,) = [r.item for r in resumed.records if r.item.id not in done]
    assert asks_about(asked, left)
    for name in ("predictions.jsonl", "results.json", "run.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_finished_run_asks_nothing_again(run, questions):
    run("perceptiontest", questions, always("A"))
    _, model = run("perceptiontest", questions, always("A"))
    assert model.asked == []


def test_other_settings_never_go_on_with_old_answers(run, questions):
    run("perceptiontest", questions, always("A"))
    with pytest.raises(UsageError, match="num_frames"):
        run("perceptiontest", questions, always("A"), sampling=FrameSampling(num_frames=4))
    found, model = run(
        "perceptiontest",
        questions,
        always("A"),
        sampling=FrameSampling(num_frames=4),
        job=JobSettings(force=True),
    )
    assert len(model.asked) == found.scores.items


def test_the_blind_baseline_sees_no_video(run, questions):
    found, model = run("perceptiontest", questions, always("A"), blind=True)
    assert [request.media for request in model.asked] == [(), ()]
    assert found.folder.name == "scripted+blind"
    assert read_records(found.folder / "predictions.jsonl")[0].prediction.frames == ()


def test_a_limit_is_said_in_the_report(run, questions, tmp_path):
    found, _ = run("perceptiontest", questions, always("A"), limit=1)
    assert found.scores.items == 1
    write_report([found], tmp_path / "out")
    assert "over the first 1 items" in (tmp_path / "out" / "report.md").read_text()


def ranked(request: Request) -> Completion:
    alternatives = ((" B", -0.5), ("A", -2.0), (" b", -3.0), ("The", -0.4), (" bc", -0.2))
    return Completion(request.id, "The", logprobs=(TokenLogprob("The", -0.4, alternatives),))


def test_options_are_ranked_by_their_letters(run, questions):
    found, model = run("perceptiontest", questions, ranked, rank_options=True)
    record = read_records(found.folder / "predictions.jsonl")[0]
    assert record.prediction.option_scores == pytest.approx((-2.0, -0.421, -3.0), abs=1e-3)
    assert [a.params.max_new_tokens for a in model.asked] == [1, 1]
    assert found.scores.unparsed == 0
    assert found.scores.metrics["accuracy"].score == 50  # B is right once


def test_an_engine_without_probabilities_cannot_rank(run, questions):
    with pytest.raises(MissingCapability, match="log-probabilities"):
        run("perceptiontest", questions, always("A"), rank_options=True)


def test_a_folder_of_pictures_is_a_video_with_a_clock(run, tmp_path):
    mvbench(tmp_path / "data")
    found, _ = run("mvbench", tmp_path / "data", always("A"))
    (record,) = [r for r in found.records if r.item.facts]
    # Twelve pictures, three a second, cut to six; MVBench takes the middles of segments.
    assert record.prediction.frames[0]["indices"] == [1, 3]
    assert record.prediction.frames[0]["seconds"] == pytest.approx([1 / 3, 1], abs=1e-6)


def test_runs_are_compared_on_the_same_items_only(run, questions, tmp_path):
    good, _ = run(
        "perceptiontest",
        questions,
        perfect(BENCHMARKS["perceptiontest"], questions),
        name="good",
    )
    bad, _ = run("perceptiontest", questions, always("no idea"), name="bad")
    assert compare_runs(good, bad)["accuracy"].value == 100
    short, _ = run("perceptiontest", questions, always("A"), name="short", limit=1)
    with pytest.raises(UsageError, match="same items"):
        compare_runs(good, short)
    assert {path.name for path in find_runs(tmp_path / "out")} == {"good", "bad", "short"}


def test_the_report_holds_tables_worst_frames_and_the_command(run, questions, tmp_path):
    output = tmp_path / "out"
    both = [
        run("perceptiontest", questions, always(text), name=name)[0]
        for name, text in (("model/one", "A"), ("two", "<script>alert(1)</script>"))
    ]
    write_report(both, output)
    markdown, page = ((output / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "| accuracy | 50.00" in markdown
    assert "## By area: accuracy" in markdown
    assert "| two | +50.00 |" in markdown
    assert "unparsed | 0 (0.0%) | 2 (100.0%)" in markdown
    assert f"kinema eval perceptiontest {questions} --split valid" in markdown
    assert "--model model/one --model two" in markdown
    assert "<script>" not in page
    assert (output / "model_one" / "pictures" / "video_1-0.png").stat().st_size > 0
    assert 'src="model_one/pictures/video_1-0.png"' in page


def test_the_command_of_a_report_names_everything_that_differs(run, questions, tmp_path):
    found, _ = run(
        "perceptiontest",
        questions,
        always("A"),
        params=SamplingParams(temperature=0.2, stop=("</s>",)),
        preset="vlmevalkit",
        limit=2,
    )
    command = command_of([found], tmp_path / "out")
    for words in ("--preset vlmevalkit", "--limit 2", "--temperature 0.2", "--stop '</s>'"):
        assert words in command
    assert "--num-frames 2" in command


def test_segmentation_is_drawn_and_its_bad_lines_are_counted(run, tmp_path):
    breakfast_chat(tmp_path / "data")
    found, model = run(
        "breakfast-chat", tmp_path / "data", always("1-6 SIL\nsomething\n6-18 flying\n18-25 SIL")
    )
    asked = {request.conversation.messages[-1].text for request in model.asked}
    assert "List down all the segments. action is salat" in asked
    assert found.scores.notes == {"unparsed_lines": 2, "unknown_labels": 2}
    assert found.scores.metrics["mof"].score == pytest.approx(100 * 13 / 25)
    assert found.scores.metrics["per_video_label_recall"].score == pytest.approx(100 * 2 / 3)
    assert write_timelines(found) == 2
    assert len(list((found.folder / "timelines").glob("*.png"))) == 2


def test_names_of_models_and_items_are_safe_file_names():
    assert runs.run_name("Qwen/Qwen2.5-VL-3B", blind=False) == "Qwen_Qwen2.5-VL-3B"
    assert runs.run_name("../../x", blind=True) == "x+blind"
    assert safe_name("../a b/c\n") == "a_b_c"


def test_check_finds_what_is_missing_and_what_is_broken(questions):
    found = check_benchmark("perceptiontest", questions)
    assert found.complete
    assert (found.items, found.videos) == (2, 2)
    assert list(found.sha256) == ["mc_question_valid.json"]
    (questions / "videos" / "video_0.mp4").unlink()
    (questions / "videos" / "video_1.mp4").write_bytes(b"")
    found = check_benchmark("perceptiontest", questions)
    assert found.missing == ("video_0",)
    assert found.unreadable["videos/video_1.mp4"].startswith("not_media")
    assert not found.complete


def test_check_notices_half_a_download(tmp_path):
    mvbench(tmp_path)
    found = check_benchmark("mvbench", tmp_path)
    assert (found.items, found.official_items, found.complete) == (5, 4000, False)
