"""Records of a prompt file, and where their media are."""

import json
import tarfile

import pytest
from PIL import Image

from kinema.errors import MediaNotFound, NotMedia, RequestRefused, UsageError
from kinema.tasks.prompts_file import MediaBase, read_records, understand, write_records
from kinema.video import load_image


def test_both_kinds_of_file_are_read_in_order(tmp_path):
    records = [{"video": "a.mp4", "text": "é"}, {"video": "b.mp4", "text": "2"}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    lines = "\n".join(json.dumps(record) for record in records)
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    assert read_records(tmp_path / "a.json") == read_records(tmp_path / "a.jsonl") == records


def test_a_bad_line_is_one_bad_record(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"video": "a", "text": "?"}\n{cut\n')
    good, bad = read_records(tmp_path / "a.jsonl")
    assert understand(good | {"text": "<video>?"}).medium == "a"
    with pytest.raises(RequestRefused, match="no JSON object"):
        understand(bad)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "neither .json nor .jsonl"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "{}", "is no list"),
    ],
)
def test_other_files_are_refused(name, content, words, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=words):
        read_records(tmp_path / name)


def test_what_is_written_is_read_back(tmp_path):
    records = [{"pred_answer": "\u2028 line"}, {"pred_answer": None}]
    for name in ("out.json", "out.jsonl"):
        write_records(tmp_path / name, records)
    assert json.loads((tmp_path / "out.json").read_text()) == records
    lines = (tmp_path / "out.jsonl").read_text().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == records


@pytest.mark.parametrize("field", ["prompt", "text", "question"])
def test_words_come_from_any_of_three_fields(field):
    assert understand({"video": "a", field: "<video>\nQ"}).text == "<video>\nQ"


def test_the_earlier_field_wins():
    record = {"image": "a", "question": "3", "text": "2", "prompt": "<image>1"}
    assert understand(record).text == "<image>1"


@pytest.mark.parametrize(
    ("insert", "separator", "text"),
    [
        ("left", "", "<video>Q"),
        ("right", "", "Q<video>"),
        ("left", " \n", "<video> \nQ"),
    ],
)
def test_the_placeholder_is_put_where_it_was_asked(insert, separator, text):
    record = {"video": "a", "text": "Q"}
    assert understand(record, insert=insert, separator=separator).text == text


@pytest.mark.parametrize(
    ("record", "settings", "words"),
    [
        ({"video": "a"}, {}, "no prompt"),
        ({"video": "a", "text": "Q"}, {}, "0 <video>"),
        ({"video": "a", "text": "<video> <video>"}, {}, "2 <video>"),
        ({"video": "a", "text": "<video>"}, {"insert": "left"}, "2 <video>"),
        ({"video": "a", "text": "<image>"}, {"media_type": "image"}, "no image"),
        ({"text": "Q"}, {"insert": "left"}, "no video or image"),
        (["list"], {}, "no JSON object"),
    ],
)
def test_records_that_cannot_be_answered_say_why(record, settings, words):
    with pytest.raises(RequestRefused, match=words):
        understand(record, **settings)


def test_a_record_without_media_is_a_question_in_words():
    question = understand({"text": "Hello?"})
    assert (question.text, question.kind) == ("Hello?", None)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "media.tar"
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (32, 24), colour).save(tmp_path / f"{name}.png")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "a.png", arcname="./a.png")
        tar.add(tmp_path / "b.png", arcname="folder/b.png")
    return path


def test_members_of_a_tar_are_read_under_either_spelling(archive, tmp_path):
    base = MediaBase(archive)
    assert base.find("folder/b.png") == f"{archive}::folder/b.png"
    assert base.find("/abs/c.png") == tmp_path.__class__("/abs/c.png")
    for name, colour in (
        ("a.png", (255, 0, 0)),
        ("./a.png", (255, 0, 0)),
        ("folder/b.png", (0, 0, 255)),
    ):
        assert tuple(load_image(base.find(name)).pixels[0, 0, 0]) == colour
    with pytest.raises(MediaNotFound, match=r"no member 'c\.png'"):
        load_image(base.find("c.png"))


def test_a_folder_joins_names_and_absolute_ones_win(tmp_path):
    base = MediaBase(tmp_path)
    assert base.find("a.mp4") == tmp_path / "a.mp4"
    assert base.find(str(tmp_path / "b.mp4")) == tmp_path / "b.mp4"


def test_a_broken_tar_is_named(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(NotMedia, match=r"x\.tar is no tar"):
        load_image(MediaBase(tmp_path / "x.tar").find("a"))


def test_a_stamp_changes_with_the_file(tmp_path):
    base = MediaBase(tmp_path)
    absent = base.stamp("a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"1")
    one = base.stamp("a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"12")
    assert len({absent, one, base.stamp("a.mp4")}) == 3
