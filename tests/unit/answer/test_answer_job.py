"""A file of prompts, answered by the echo engine: order, isolation, resuming."""

import json
import re
import tarfile
import threading
import time
from collections import Counter

import pytest
from PIL import Image

from kinema.cli.app import run as main
from kinema.engines.echo import EchoEngine
from kinema.errors import UsageError
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob, AnswerOptions
from kinema.tasks.models import find_model
from kinema.tasks.prompts_file import prompts_by_medium
from kinema.video import Workers
from support.clips import make_clip


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for name in ("a", "b"):
        make_clip(folder / f"{name}.mp4", num_frames=20)
    Image.new("RGB", (32, 24), "red").save(folder / "red.png")
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 100)
    with tarfile.open(folder / "media.tar", "w") as tar:
        tar.add(folder / "a.mp4", arcname="./a.mp4")
        tar.add(folder / "red.png", arcname="red.png")
    return folder


@pytest.fixture
def answer(media, tmp_path):
    def run(records, *, name="out.jsonl", on_progress=lambda progress: None, **settings):
        source = tmp_path / "prompts.jsonl"
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        source.write_text("\n".join(lines))
        job_settings = {
            k: settings.pop(k)
            for k in ("params", "force", "retry_failed", "limit")
            if k in settings
        }
        options = AnswerOptions(**{"media_base_path": media} | settings)
        job = AnswerJob(
            source, tmp_path / name, find_model("echo"), options=options, **job_settings
        )
        failed = job.run(on_progress)
        text = (tmp_path / name).read_text()
        written = json.loads(text) if name.endswith(".json") else _lines(text)
        return failed, written

    return run


def _lines(text):
    return [json.loads(line) for line in text.split("\n") if line]


def question(video, text, **more):
    return {"video": video, "text": text, **more}


def test_output_keeps_the_order_and_every_field_of_the_input(answer):
    records = [
        question("a.mp4", "one", question_id=7, category="conv"),
        question("b.mp4", "two", answer_id="x", metadata={"k": 1}),
        question("a.mp4", "three"),
    ]
    failed, written = answer(records, insert_media_token="right")
    assert failed == 0
    for record, out in zip(records, written, strict=True):
        assert {**out, **record} == out
        assert out["prompt"] == record["text"] + "<video>"
        assert record["text"] in out["pred_answer"]
        assert out["full_text"].endswith(out["pred_answer"])
        assert out["model_id"] == "echo"
        assert out["error"] is None
        assert out["frames"][0]["source"] == record["video"]
        assert out["usage"].keys() == {"prompt_tokens", "completion_tokens", "visual_tokens"}
    assert [out["answer_id"] for out in written] == [0, "x", 0]
    assert written[1]["metadata"] == {"k": 1}


def test_a_json_output_is_a_list(answer):
    _, written = answer([question("a.mp4", "<video>?")], name="out.json")
    assert len(written) == 1


def test_one_bad_record_never_stops_the_file(answer):
    records = [
        question("a.mp4", "<video> fine"),
        question("absent.mp4", "<video>"),
        question("broken.mp4", "<video>"),
        "{cut",
        question("a.mp4", "no placeholder"),
        {"text": "<video> whose?"},
        question("b.mp4", "<video> fine too"),
    ]
    failed, written = answer(records)
    errors = [record["error"] for record in written]
    assert failed == 4
    assert errors[0] is errors[5] is errors[6] is None
    assert "absent.mp4" in errors[1]
    assert written[3]["line"] == "{cut"
    assert "0 <video>" in errors[4]
    assert all(record["pred_answer"] is None for record in written if record["error"])


def test_images_and_videos_mix_in_one_file_and_come_out_of_a_tar(answer, media):
    records = [
        question("a.mp4", "<video> moving?"),
        {"image": "./red.png", "prompt": "<image> still?"},
    ]
    for base in (media, media / "media.tar"):
        failed, written = answer(records, media_base_path=base, name=f"{base.name}.jsonl")
        assert failed == 0
        assert [out["frames"][0]["num_frames"] for out in written] == [8, 1]
        assert "image" in written[1]["pred_answer"]


def test_media_type_picks_the_field(answer):
    both = {"video": "a.mp4", "image": "red.png", "text": "?"}
    for kind, frames in (("video", 8), ("image", 1)):
        _, (out,) = answer([both], media_type=kind, insert_media_token="left", name=f"{kind}.jsonl")
        assert out["prompt"] == f"<{kind}>?"
        assert out["frames"][0]["num_frames"] == frames


def test_a_medium_is_decoded_once_for_all_of_its_prompts(answer, monkeypatch):
    reads = Counter()
    load = Workers.load_frames

    def counting(workers, source, **settings):
        reads[source.name] += 1
        return load(workers, source, **settings)

    monkeypatch.setattr(Workers, "load_frames", counting)
    names = ["a.mp4", "b.mp4"] * 100  # more than are worked on at a time
    answer([question(n, f"<video> {i}") for i, n in enumerate(names)])
    assert reads == {"a.mp4": 1, "b.mp4": 1}


def test_the_next_medium_is_read_while_this_one_is_answered(answer, monkeypatch):
    load = Workers.load_frames
    second_is_read = threading.Event()

    def noticing(workers, source, **settings):
        if source.name == "b.mp4":
            second_is_read.set()
        return load(workers, source, **settings)

    monkeypatch.setattr(Workers, "load_frames", noticing)
    waited = []
    serve = EchoEngine._answer

    def waiting(self, request, inbox):
        waited.append(second_is_read.wait(30))
        serve(self, request, inbox)

    monkeypatch.setattr(EchoEngine, "_answer", waiting)
    answer([question("a.mp4", "<video>"), question("b.mp4", "<video>")])
    assert waited == [True, True]


def test_prompts_are_counted_by_medium(media, tmp_path, capsys):
    records = [question(n, "<video>") for n in ("a.mp4", "b.mp4", "a.mp4")]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(map(json.dumps, records)))
    words = ["answer", str(prompts), "-o", str(tmp_path / "out.jsonl"), "-m", "echo"]
    assert main([*words, "--media-base-path", str(media)]) == 0
    counted = re.findall(r"PROMPT (\d) of (\d)", capsys.readouterr().out)
    assert sorted(counted) == [("1", "1"), ("1", "2"), ("2", "2")]


def test_a_hundred_thousand_records_are_counted_at_once():
    records = [question(f"{i}.mp4", "?") for i in range(100_000)]
    began = time.perf_counter()
    assert len(prompts_by_medium(records)) == 100_000
    assert time.perf_counter() - began < 1


def test_an_end_string_is_cut_as_a_string_and_not_by_its_letters(answer):
    end = SamplingParams(stop=("<extra_id_1>",))
    _, (out,) = answer([question("a.mp4", "<video> a red diet")], params=end)
    assert out["pred_answer"].endswith("a red diet")


def test_control_strings_of_a_question_stay_words(answer):
    _, (out,) = answer([{"text": "what is <image> in html?"}])
    assert "what is <image> in html?" in out["pred_answer"]


def test_a_second_run_answers_nothing_again(answer):
    records = [question("a.mp4", f"<video> {i}") for i in range(3)]
    _, first = answer(records)
    again = []
    _, second = answer(records, on_progress=again.append)
    assert first == second
    (begun,) = again
    assert begun.unit is None
    assert begun.found.endswith("has 3 of 3 records from earlier runs, 0 failed, 0 to do.")


def test_a_medium_that_appears_later_is_answered_then(answer, media):
    records = [question("late.mp4", "<video>?")]
    assert answer(records)[0] == 1
    make_clip(media / "late.mp4", num_frames=5)
    assert answer(records)[0] == 0
    (media / "late.mp4").unlink()


def test_other_settings_never_mix_with_old_answers(answer):
    records = [question("a.mp4", "<video>?")]
    answer(records)
    warmer = SamplingParams(max_new_tokens=3)
    with pytest.raises(UsageError, match="max_new_tokens"):
        answer(records, params=warmer)
    _, (out,) = answer(records, params=warmer, force=True)
    assert out["usage"]["completion_tokens"] <= 3


def test_a_file_that_another_program_wrote_is_kept(answer, tmp_path):
    (tmp_path / "out.jsonl").write_text("my notes")
    with pytest.raises(UsageError, match=r"out\.jsonl is there already") as caught:
        answer([question("a.mp4", "<video>one")])
    assert "force" in caught.value.hint
    assert (tmp_path / "out.jsonl").read_text() == "my notes"
    assert not (tmp_path / ".out.jsonl.ledger").exists()
    _, (record,) = answer([question("a.mp4", "<video>one")], force=True)
    assert record["text"] == "<video>one"
    (tmp_path / "empty.jsonl").touch()
    assert answer([question("a.mp4", "<video>one")], name="empty.jsonl")[0] == 0


def test_a_limit_loses_no_answer_that_is_there(answer):
    records = [question("a.mp4", f"<video>{i}") for i in range(4)]
    _, first = answer(records[:3])
    told = []
    _, limited = answer(records, limit=1, on_progress=told.append)
    assert limited == first
    assert [progress.unit for progress in told] == [None]
    _, whole = answer(records, on_progress=told.append)
    assert whole[:3] == first
    assert sum(progress.unit is not None for progress in told) == 1


def test_a_folder_of_media_that_is_not_there_is_refused_and_leaves_nothing(tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"video": "clip.mp4", "text": "What?"}\n')
    base = ["--media-base-path", str(tmp_path / "nowhere"), "--insert-media-token", "left"]
    assert (
        main(["answer", str(prompts), "-o", str(tmp_path / "out.jsonl"), "-m", "echo", *base]) == 2
    )
    assert "There is no folder or tar" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [prompts]
