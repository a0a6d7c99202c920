"""Every benchmark is read from a small data set in its official layout, and scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.errors import UsageError
from kinema.evaluation.benchmarks import BENCHMARKS, WrongRows
from kinema.evaluation.metrics import METRICS
from kinema.evaluation.presets import PRESETS, choose_sampling, put_question
from kinema.evaluation.records import Item, Prediction, Record
from kinema.evaluation.scoring import score_records
from kinema.types import FrameSampling
from support.action_layouts import salads
from support.layouts import LAYOUTS, msvd_qa, questions_and_answers, tempcompass
from support.scripted import right_answer

EACH = pytest.mark.parametrize("name", LAYOUTS)
# WUPS needs WordNet, which a machine may not have.
HEADLINE_FROM_ELSEWHERE = {"next-oe": "normalised_match"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (write, _) in LAYOUTS.items():
        made[name] = tmp_path_factory.mktemp(name)
        write(made[name])
    return made


def records(items: list[Item], reply) -> list[Record]:
    return [Record(item, Prediction(reply=reply(item))) for item in items]


def test_every_row_has_a_generated_data_set_and_known_metrics():
    assert set(LAYOUTS) == set(BENCHMARKS)
    for benchmark in BENCHMARKS.values():
        assert set(benchmark.metrics) <= set(METRICS)


@EACH
def test_the_official_layout_is_read_and_every_video_found(name, folders):
    items = BENCHMARKS[name].items(folders[name])
    assert len(items) == LAYOUTS[name][1]
    for item in items:
        assert item.question
        assert (folders[name] / item.video).exists()
        assert item.video
        assert Item.from_dict(item.to_dict()) == item


@EACH
def test_right_answers_score_full_marks_and_no_answers_none(name, folders):
    benchmark = BENCHMARKS[name]
    items = benchmark.items(folders[name])
    right = score_records(records(items, right_answer), benchmark)
    headline = HEADLINE_FROM_ELSEWHERE.get(name, right.headline)
    lower_is_better = METRICS[headline].lower_is_better
    assert right.unparsed == 0
    if benchmark.metrics[0] == "cider_d":
        assert right.metrics["rouge_l"].score == pytest.approx(100)
        assert right.metrics["cider_d"].score > 100
    else:
        assert right.metrics[headline].score == pytest.approx(0 if lower_is_better else 100)
    silent = score_records(records(items, lambda item: None), benchmark)
    assert silent.answered == 0
    for metric, score in silent.metrics.items():
        if METRICS[metric].lower_is_better:
            assert score.score > 0
        else:
            assert score.score == 0, metric


@EACH
def test_a_missing_folder_or_an_empty_one_is_named(name, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        BENCHMARKS[name].items(tmp_path / "nowhere")
    with pytest.raises(UsageError) as caught:
        BENCHMARKS[name].items(tmp_path)
    assert caught.value.hint


def test_a_video_that_is_not_there_leaves_the_item_in(tmp_path):
    msvd_qa(tmp_path)
    (tmp_path / "YouTubeClips" / "abc_1_10.avi").unlink()
    items = BENCHMARKS["msvd-qa"].items(tmp_path)
    assert len(items) == 4
    assert [bool(item.video) for item in items] == [False, True, False, True]


@pytest.mark.parametrize("name", ["msvd-qa", "msrvtt-qa", "tgif-frameqa", "activitynet-qa"])
def test_the_common_question_and_answer_layout_is_read(name, tmp_path):
    questions_and_answers(tmp_path)
    items = BENCHMARKS[name].items(tmp_path)
    # The answers are stored in reverse: they are joined by id, not by position.
    assert [item.references[0] for item in items] == ["dog", "cat", "two", "red ball"]


def test_tempcompass_takes_options_out_of_questions(tmp_path):
    tempcompass(tmp_path)
    items = BENCHMARKS["tempcompass"].items(tmp_path)
    assert items[0].options == ("cooking", "drinking")
    assert items[0].question == "What?"
    assert [i.options for i in items if i.groups["format"] == "caption matching"] == (
        [("It sinks.", "It floats.")] * 2
    )


def test_macro_averages_weigh_tasks_alike(folders):
    benchmark = BENCHMARKS["mvbench"]
    items = benchmark.items(folders["mvbench"])
    only = "action sequence"
    found = score_records(
        records(items, lambda i: right_answer(i) if i.groups["task"] == only else "no idea"),
        benchmark,
    )
    assert found.metrics["accuracy"].score == pytest.approx(100 / 3)
    assert found.tables["task"][only]["accuracy"] == 100
    assert found.unparsed == 3


def test_all_folds_are_pooled_each_and_then_averaged(tmp_path):
    salads(tmp_path)
    splits = tmp_path / "splits"
    (splits / "test.split1.bundle").write_text("rgb-01-1.txt\n")
    (splits / "test.split2.bundle").write_text("rgb-01-2.txt\n")
    (tmp_path / "groundTruth" / "rgb-01-3.txt").write_text("cut_tomato\n" * 75)
    (splits / "test.split3.bundle").write_text("rgb-01-3.txt\n")
    benchmark = BENCHMARKS["50salads"]
    assert [i.groups["fold"] for i in benchmark.items(tmp_path, split="all")] == (
        ["split1", "split2", "split3"]
    )
    items = benchmark.items(tmp_path, split="all")
    found = score_records(
        records(items, lambda i: right_answer(i) if i.groups["fold"] == "split3" else ""),
        benchmark,
    )
    # Pooled it would be 75 of 125 frames.
    assert found.metrics["mof"].score == pytest.approx(100 / 3)
    assert found.tables["fold"]["split3"]["mof"] == 100


def test_hidden_answers_are_left_out_of_scores(folders):
    benchmark = BENCHMARKS["egoschema"]
    items = benchmark.items(folders["egoschema"], split="full")
    found = score_records(records(items, lambda item: "A"), benchmark)
    assert (found.items, found.hidden, found.metrics) == (3, 3, {})


def test_an_error_counts_as_wrong_and_is_listed(folders):
    benchmark = BENCHMARKS["perceptiontest"]
    first, second = benchmark.items(folders["perceptiontest"])
    lost = Prediction(reply=None, error="gone", error_code="not_found")
    found = score_records(
        [Record(first, Prediction(reply=right_answer(first))), Record(second, lost)], benchmark
    )
    score = found.metrics["accuracy"]
    assert (score.score, score.score_on_answered, score.items) == (50, 100, 2)
    assert found.errors == {"not_found": 1}
    assert found.unparsed == 0


def test_an_unreadable_reply_counts_as_wrong_in_both_scores(folders):
    benchmark = BENCHMARKS["perceptiontest"]
    first, second = benchmark.items(folders["perceptiontest"])
    found = score_records(
        [
            Record(first, Prediction(reply=right_answer(first))),
            Record(second, Prediction(reply="A man walks.")),
        ],
        benchmark,
    )
    score = found.metrics["accuracy"]
    assert (score.score, score.score_on_answered, found.unparsed_rate) == (50, 50, 0.5)


@EACH
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_asks_every_item_with_all_its_options(name, preset, folders):
    benchmark = BENCHMARKS[name]
    for item in benchmark.items(folders[name]):
        prompt = put_question(item, benchmark, PRESETS[preset])
        assert item.task == "caption" or item.question.rstrip("?")[1:] in prompt
        assert "{" not in prompt
        assert all(option in prompt for option in item.options)
        assert item.subtitles in prompt


def test_subtitles_are_asked_with_and_without(folders):
    with_them = BENCHMARKS["video-mme-sub"].items(folders["video-mme-sub"])
    without = BENCHMARKS["video-mme"].items(folders["video-mme"])
    assert [item.subtitles for item in with_them] == [f"Hello there\nnumber {i}" for i in range(3)]
    assert not any(item.subtitles for item in without)
    asked = put_question(with_them[0], BENCHMARKS["video-mme-sub"], PRESETS["official"])
    assert asked.index("Hello there") < asked.index("how many?")
    assert "subtitles" not in put_question(without[0], BENCHMARKS["video-mme"], PRESETS["official"])


def test_presets_take_the_frames_that_their_tools_take(folders):
    item = BENCHMARKS["mvbench"].items(folders["mvbench"])[0]

    def chosen(preset, asked=FrameSampling(), name="mvbench"):
        return choose_sampling(item, BENCHMARKS[name], PRESETS[preset], asked)

    assert chosen("official").to_dict() == (
        {"num_frames": 16, "formula": "segments", "start": 0.2, "end": 0.8}
    )
    assert (chosen("lmms-eval").num_frames, chosen("lmms-eval").formula) == (32, "linspace")
    assert (chosen("vlmevalkit").num_frames, chosen("vlmevalkit").formula) == (8, "segments")
    assert chosen("vlmevalkit", name="video-mme").formula == "interior"
    asked = chosen("vlmevalkit", FrameSampling(num_frames=64), "video-mme")
    assert (asked.num_frames, asked.formula) == (64, "interior")


@pytest.mark.parametrize(
    ("name", "preset", "prompt"),
    [
        (
            "mvbench",
            "lmms-eval",
            "Question:which?\nOption:\n(A) x\n(B) y\nOnly give the best option.\n",
        ),
        (
            "mvbench",
            "vlmevalkit",
            "Question: which?\nOptions:\n(A) x\n(B) y\nOnly give the best option.",
        ),
        (
            "video-mme",
            "vlmevalkit",
            "\nThese are the frames of a video. Select the best answer to the following "
            "multiple-choice question based on the video. Respond with only the letter (A, B, C, "
            "or D) of the correct option.\nQuestion: which?\nA. x\nB. y\nAnswer: ",
        ),
        (
            "egoschema",
            "lmms-eval",
            "which?\nA. x\nB. y\nAnswer with the option's letter from the given choices directly.",
        ),
        ("egoschema", "vlmevalkit", "Question: which?\nA. x\nB. y\nAnswer: "),
    ],
)
def test_presets_ask_in_the_words_of_their_tools(name, preset, prompt):
    item = Item(id="1", task="choice", question="which?", options=("x", "y"))
    assert put_question(item, BENCHMARKS[name], PRESETS[preset]) == prompt


def test_a_question_becomes_a_sentence_where_a_tool_makes_it_one():
    item = Item(id="1", task="text", question="is the athlete wearing trousers")
    asked = put_question(item, BENCHMARKS["activitynet-qa"], PRESETS["lmms-eval"])
    assert asked.startswith("Is the athlete wearing trousers? Answer the question")


def test_only_presets_that_have_a_system_prompt_bring_one():
    item = Item(id="1", task="choice", question="which?", options=("x", "y"))
    styles = {name: p.style(item, BENCHMARKS["mvbench"]).system for name, p in PRESETS.items()}
    assert styles["official"] == styles["vlmevalkit"] != ""
    assert styles["lmms-eval"] == ""


def test_braces_in_a_question_are_words():
    item = Item(id="1", task="choice", question="what is {options}?", options=("{x}", "y"))
    asked = put_question(item, BENCHMARKS["jsonl"], PRESETS["official"])
    assert "A. {x}" in asked
    assert "what is {options}?" in asked


WRONG_ROWS = [
    ("{", "row", "JSON object"),
    ("[1]", "row", "JSON object"),
    ('"\\ud800', "row", "JSON object"),
    ('{"question": "x", "colour": 1}', "colour", "left out; keys are id, video, question"),
    ('{"video": "a.mp4"}', "question", "a text that is not empty"),
    ('{"question": 7}', "question", "a text that is not empty"),
    ('{"question": "x", "video": 7}', "video", "the name of a file"),
    ('{"question": "x", "options": "ab"}', "options", "a list of 1 to 26 texts"),
    ('{"question": "x", "options": ["a", "b"], "answer": "Z"}', "answer", "a letter A to B"),
    ('{"question": "x", "options": ["a", "b"], "answer": 2}', "answer", "0 to 1"),
    ('{"question": "x", "options": ["a", "b"], "answers": ["a"]}', "answers", "left out"),
    ('{"question": "x", "task": "tango"}', "task", "one of choice, text, count, caption, span"),
    ('{"question": "x", "task": "choice"}', "options", "a list"),
    ('{"question": "x", "task": "text", "options": ["a"]}', "options", "left out"),
    ('{"question": "x", "task": "span", "answer": "soon"}', "answer", 'like "1.5 3.0"'),
    ('{"question": "x", "task": "span", "answer": "3 1"}', "answer", 'like "1.5 3.0"'),
    ('{"question": "x", "task": "count", "answers": ["2", "many"]}', "answers", "a number"),
    ('{"question": "x", "task": "segments", "answer": "foo"}', "answer", "1-30 take bowl"),
    ('{"question": "x", "answer": {"a": 1}}', "answer", "a text or a number"),
    ('{"question": "x", "groups": "easy"}', "groups", "an object of texts"),
    ('{"question": "x", "start": "0:05"}', "start", "seconds, 0 or more"),
    ('{"question": "x", "start": 4, "end": 2}', "end", "more than the start, 4"),
    ('{"question": "x", "end": NaN}', "end", "seconds, 0 or more"),
    ('{"question": "x", "id": "2"}', "id", "different in every row"),
]


def test_every_wrong_row_of_ones_own_file_is_named_with_what_is_allowed(tmp_path):
    path = tmp_path / "q.jsonl"
    good = '{"question": "how?", "answer": "so"}'
    path.write_text("\n".join([good, good, *(row for row, *_ in WRONG_ROWS)]) + "\n")
    with pytest.raises(WrongRows, match=rf"{path}, line 3: row is .* 23 more rows") as caught:
        BENCHMARKS["jsonl"].items(path)
    assert "kinema eval check jsonl" in caught.value.hint
    assert [(row.line, row.field) for row in caught.value.rows] == [
        (line, field) for line, (_, field, _) in enumerate(WRONG_ROWS, start=3)
    ]
    for found, (_, _, allowed) in zip(caught.value.rows, WRONG_ROWS, strict=True):
        assert allowed in found.allowed
    assert str(caught.value.rows[11]) == (
        'line 14: task is "tango"; it must be one of choice, text, count, caption, span, segments'
    )
    assert [item.id for item in caught.value.items] == ["1", "2"]


def test_segments_of_ones_own_are_scored(tmp_path):
    path = tmp_path / "q.jsonl"
    row = {"question": "list", "task": "segments", "answers": ["1-30 take bowl", "31-40 stir"]}
    path.write_text(json.dumps(row))
    benchmark = BENCHMARKS["jsonl"]
    scores = score_records(records(benchmark.items(path), lambda item: "1-40 take bowl"), benchmark)
    assert scores.metrics["mof"].score == 75.0


def test_repeated_ids_are_refused(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "x", "question": "a", "answer": "b"}\n' * 2)
    with pytest.raises(UsageError, match='line 2: id is "x"; it must be different in every row'):
        BENCHMARKS["jsonl"].items(path)
