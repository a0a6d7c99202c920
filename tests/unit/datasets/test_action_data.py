"""Breakfast and 50Salads become conversations: numbers, repeats, folds, labels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from kinema.datasets.folds import breakfast_fold
from kinema.datasets.questions import moved, read_exchanges
from kinema.datasets.recordings import breakfast, renamed, rescaled
from kinema.datasets.samples import Sample, read_samples
from kinema.datasets.segments import Segment, parse_segments
from kinema.errors import MediaNotFound, UnknownName, UsageError
from kinema.messages import FeaturesPart, TextPart, VideoPart
from kinema.tasks.data.convert import ConvertOptions, convert
from small_actions import MILK, TEA, label_lines, make_breakfast, make_salads


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_breakfast(tmp_path_factory.mktemp("actions"))


def answers(samples: list[Sample]) -> list[str]:
    return [sample.conversation.messages[1].text for sample in samples]


def converted(name: str, root: Path, output: Path, **options: object) -> list[Sample]:
    convert(name, root, output, ConvertOptions(**options))  # type: ignore[arg-type]
    return list(read_samples(output))


def test_the_answer_is_the_label_file_with_words(root: Path, tmp_path: Path) -> None:
    samples = converted("breakfast", root, tmp_path / "all.jsonl", repeat_segments=1)

    tea = next(s for s in samples if s.id.startswith("P03/cam01/P03_tea"))

    expected = label_lines(TEA, end="").replace("_", " ").strip()
    assert tea.conversation.messages[1].text == expected
    assert tea.conversation.messages[0].text == "List down all the segments. action is tea"
    assert tea.conversation.media[0].source.resolve() == (root / "P03/cam01/P03_tea.avi").resolve()


def test_the_activity_can_be_kept_from_the_model(root: Path, tmp_path: Path) -> None:
    samples = converted(
        "breakfast", root, tmp_path / "a.jsonl", repeat_segments=1, hide_activity=True
    )

    questions = {sample.conversation.messages[0].text for sample in samples}
    assert questions == {"What are the segments in the video and their frames ?"}


def test_labels_outside_of_the_classes_are_mapped_and_merged(root: Path, tmp_path: Path) -> None:
    mapped = converted("breakfast", root, tmp_path / "m.jsonl", repeat_segments=1)
    raw = converted("breakfast", root, tmp_path / "r.jsonl", repeat_segments=1, raw_labels=True)
    own = converted(
        "breakfast", root, tmp_path / "o.jsonl", repeat_segments=1, labels=("pour_milk=pour",)
    )

    milk = [next(s for s in found if "milk" in s.id) for found in (mapped, raw, own)]

    assert answers(milk)[0] == "1-11 SIL\n11-41 pour milk\n41-45 SIL"
    assert answers(milk)[1] == label_lines(MILK, end="").replace("_", " ").strip()
    assert "11-41 pour\n" in answers(milk)[2]


def test_repeats_are_those_of_the_fork_and_can_be_chosen(root: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions"
    (questions / "P03/cam01").mkdir(parents=True)
    (questions / "P03/cam01/P03_tea.avi.labels").write_text(
        "Format 1:\nQ: Where?\nA: In a kitchen.\n\nFormat 2:\nQ: When?\nA: 1-10 SIL\nthen tea\n"
    )

    samples = converted("breakfast", root, tmp_path / "a.jsonl", questions=questions)

    counts = Counter(s.id.partition(".")[0] for s in samples if s.id.startswith("P03/cam01"))
    assert counts == {
        "P03/cam01/P03_milk#0": 12,
        "P03/cam01/P03_tea#0": 12,
        "P03/cam01/P03_tea#1": 2,
        "P03/cam01/P03_tea#2": 2,
    }
    few = converted("breakfast", root, tmp_path / "b.jsonl", repeat_segments=3, repeat_others=0)
    assert len(few) == 3 * len(breakfast(root))


def test_the_video_stands_behind_and_before_questions_in_turn(root: Path, tmp_path: Path) -> None:
    questions = tmp_path / "q"
    (questions / "P03/cam01").mkdir(parents=True)
    (questions / "P03/cam01/P03_tea.avi.labels").write_text("Q: Where?\nA: Here.\n")

    samples = converted("breakfast", root, tmp_path / "a.jsonl", questions=questions)

    orders = {
        s.id: [type(part) for part in s.conversation.messages[0].parts]
        for s in samples
        if s.id.startswith("P03/cam01/P03_tea")
    }
    assert orders["P03/cam01/P03_tea#0.0"] == [TextPart, VideoPart]
    assert orders["P03/cam01/P03_tea#1.0"] == [VideoPart, TextPart]


def test_folds_hold_out_persons(root: Path, tmp_path: Path) -> None:
    made = convert("breakfast", root, tmp_path, ConvertOptions(fold=2))

    train = {s.meta["person"] for s in read_samples(tmp_path / "train.jsonl")}
    test = list(read_samples(tmp_path / "test.jsonl"))

    assert (train, {s.meta["person"] for s in test}) == ({"P03"}, {"P16"})
    assert len(test) == len({s.id for s in test}) == 6
    assert made.notes == ("6 recordings to train on, 6 held out.",)
    with pytest.raises(UsageError, match="no fold 5"):
        breakfast_fold(breakfast(root), 5)


def test_a_split_that_leaks_is_refused_unless_asked_for(root: Path, tmp_path: Path) -> None:
    listing = tmp_path / "valid.txt"
    listing.write_text("/P03/cam01/P03_tea.avi\n/P16/stereo/P16_milk_ch0.avi\n")

    with pytest.raises(UsageError, match="2 of 2 test videos show an event"):
        convert("breakfast", root, tmp_path / "d", ConvertOptions(held_out=listing))

    made = convert(
        "breakfast", root, tmp_path / "d", ConvertOptions(held_out=listing, allow_leak=True)
    )
    assert made.files[tmp_path / "d" / "test.jsonl"] == 2
    assert "2 of the 2 held out" in made.notes[1]


@pytest.mark.parametrize("grid", [1000, 100, 7, 60])
def test_numbers_on_a_grid_come_back_to_their_frames(grid: int) -> None:
    frames = (Segment(0, 1, "a"), Segment(1, 30, "b"), Segment(30, 31, "c"), Segment(31, 60, "d"))

    on_grid = rescaled(frames, num_frames=60, grid=grid)
    back = rescaled(on_grid, num_frames=grid, grid=60)

    assert [s.label for s in on_grid] == ["a", "b", "c", "d"]
    assert all(s.start < s.end for s in on_grid)
    assert on_grid[-1].end == grid
    if grid >= 60:
        assert back == frames


def test_numbers_are_rescaled_as_numbers_not_as_text(root: Path, tmp_path: Path) -> None:
    samples = converted("breakfast", root, tmp_path / "g.jsonl", repeat_segments=1, grid=1000)

    tea = next(s for s in samples if s.id.startswith("P03/cam01/P03_tea"))
    segments = parse_segments(tea.conversation.messages[1].text, last_end=1000).segments

    assert [(s.start, s.end) for s in segments] == [
        (0, 167),
        (167, 417),
        (417, 750),
        (750, 917),
        (917, 1000),
    ]
    assert tea.meta["grid"] == "1000"
    # 12 inside of 120 stays what it is.
    assert moved("12-120 cut 12 times", lambda frame: frame * 10) == "120-1200 cut 12 times"
    assert moved("about 12-120", lambda frame: 0) == "about 12-120"


def test_questions_of_a_language_model_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "x.labels"
    path.write_text("Format 1:\nQ: Which?\nA: Tea.\n1-12 SIL: stands\n\nQ: Which?\nA: Milk.\n")
    which, again = read_exchanges(path, move=lambda frame: frame + 1)
    assert (which.question, which.answer) == ("Which?", "Tea.\n2-13 SIL: stands")
    assert again.answer == "Milk."

    path.write_text("Q: Which?\nQ: Why?\nA: So.\n")
    with pytest.raises(UsageError, match="no answer to 'Which"):
        read_exchanges(path)
    path.write_text("A: So.\n")
    with pytest.raises(UsageError, match="without a question"):
        read_exchanges(path)


def test_augmented_copies_take_turns_and_need_features(root: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    for video in root.rglob("*.avi"):
        name = features / f"{video.relative_to(root)}.safetensors"
        name.parent.mkdir(parents=True, exist_ok=True)
        for variant in ("", "flip", "bright"):
            name.with_name(name.name.replace(".safetensors", f".{variant}.safetensors")).touch()
        name.touch()

    with pytest.raises(UsageError, match="augmented copies"):
        convert("breakfast", root, tmp_path / "a.jsonl", ConvertOptions(mode="augment"))
    samples = converted(
        "breakfast",
        root,
        tmp_path / "a.jsonl",
        mode="augment",
        features=features,
        repeat_segments=3,
    )

    first = [s.conversation.media[0] for s in samples[:3]]
    assert all(isinstance(part, FeaturesPart) for part in first)
    names = [Path(str(part.source)).name.split(".avi")[1] for part in first]
    assert names == [".safetensors", ".flip.safetensors", ".bright.safetensors"]
    with pytest.raises(MediaNotFound, match="bright_flip"):
        converted("breakfast", root, tmp_path / "b.jsonl", mode="augment", features=features)


def test_salads_have_five_folds_and_their_own_repeats(tmp_path: Path) -> None:
    root = make_salads(tmp_path / "salads")
    options = ConvertOptions(fold=1)

    made = convert("50salads", root, tmp_path / "out", options)

    assert made.notes == ("8 recordings to train on, 2 held out.",)
    train = list(read_samples(tmp_path / "out" / "train.jsonl"))
    test = list(read_samples(tmp_path / "out" / "test.jsonl"))
    assert len(train) == 8 * 150
    assert {s.meta["person"] for s in train} == {"02", "03", "04", "05"}
    assert {s.meta["person"] for s in test} == {"01"}
    (text,) = set(answers(test))
    assert text == "1-11 action start\n11-36 cut tomato\n36-51 add oil\n51-60 action end"


def test_a_published_bundle_is_a_list_of_what_is_held_out(tmp_path: Path) -> None:
    root = make_salads(tmp_path / "salads", persons=("01", "02"))
    bundle = tmp_path / "test.split1.bundle"
    bundle.write_text("rgb-02-1.txt\nrgb-02-2.txt\n")

    convert("50salads", root, tmp_path / "out", ConvertOptions(held_out=bundle))

    assert {s.meta["person"] for s in read_samples(tmp_path / "out/test.jsonl")} == {"02"}


def test_copies_are_not_recordings_and_missing_labels_are_named(tmp_path: Path) -> None:
    root = make_breakfast(tmp_path, persons=("P03",), activities={"tea": TEA})
    video = root / "P03/cam01/P03_tea.avi"
    video.with_name("P03_tea_flip.avi").write_bytes(video.read_bytes())
    assert len(breakfast(root)) == 3

    video.with_name("P03_tea.avi.labels").write_text("1-10 SIL\nnonsense\n")
    with pytest.raises(UsageError, match="nonsense"):
        breakfast(root)
    video.with_name("P03_tea.avi.labels").unlink()
    with pytest.raises(UsageError, match="has no labels"):
        breakfast(root)


def test_renaming_joins_neighbours_only() -> None:
    segments = (Segment(0, 2, "a"), Segment(2, 4, "b"), Segment(6, 8, "a"))

    assert renamed(segments, {"b": "a"}) == (Segment(0, 4, "a"), Segment(6, 8, "a"))


def test_other_formats_say_which_shape_they_saw(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "Tea."}]
    rows = [{"id": 1, "video": "a.mp4", "conversations": turns}]
    (tmp_path / "chat.json").write_text(json.dumps([*rows, rows[0] | {"video": "gone.mp4"}]))

    with pytest.raises(MediaNotFound, match=r"gone\.mp4"):
        convert("llava", tmp_path / "chat.json", tmp_path / "o.jsonl")
    made = convert(
        "llava", tmp_path / "chat.json", tmp_path / "o.jsonl", ConvertOptions(skip_missing=True)
    )

    assert "LLaVA or ShareGPT" in made.notes[0]
    assert "1 samples were left out" in made.notes[1]
    assert made.files == {tmp_path / "o.jsonl": 1}
    with pytest.raises(UnknownName, match="llavva"):
        convert("llavva", tmp_path / "chat.json", tmp_path / "o.jsonl")


def test_video_instruct_puts_the_video_in_both_places(tmp_path: Path) -> None:
    (tmp_path / "v_a.mp4").touch()
    rows = [{"video_id": "v_a", "q": f"What {i}?", "a": f"{i}"} for i in range(2)]
    (tmp_path / "qa.json").write_text(json.dumps(rows))

    first, second = converted("video-chatgpt", tmp_path / "qa.json", tmp_path / "t.jsonl")

    assert isinstance(first.conversation.messages[0].parts[1], VideoPart)
    assert isinstance(second.conversation.messages[0].parts[0], VideoPart)
    assert first.conversation.media[0].source == tmp_path / "v_a.mp4"
