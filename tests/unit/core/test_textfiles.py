"""Rows of text files as editors, spreadsheets and other programs write them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from kinema.captioning.segments import read_ranges
from kinema.datasets.samples import read_samples
from kinema.errors import RequestRefused, UsageError
from kinema.evaluation.benchmarks import BENCHMARKS
from kinema.jobs.inputs import find_inputs
from kinema.tasks.prompts_file import read_records, understand, write_records
from kinema.textfiles import (
    json_line,
    read_cells,
    read_json_lines,
    read_json_list,
    read_table,
    read_text,
    write_json_lines,
    write_table,
)

SEPARATORS = "a\u2028b\u2029c\u0085d\x1ce\x0bf\x0cg"
"""What Python's ``splitlines`` takes for line ends."""
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def plain(value):
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_lines_are_read_in_every_encoding_and_with_every_line_end(tmp_path, encoding, end):
    path = tmp_path / "a.jsonl"
    rows = [{"text": SEPARATORS}, {"text": "é中🐇"}]
    path.write_bytes((plain(rows[0]) + end + end + plain(rows[1])).encode(encoding))
    assert [(row.line, row.value) for row in read_json_lines(path)] == [(1, rows[0]), (3, rows[1])]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_and_tables_are_read_in_every_encoding(tmp_path, encoding):
    listed, table = tmp_path / "a.json", tmp_path / "a.csv"
    listed.write_bytes(("[\n" + plain({"text": SEPARATORS}) + "\n]").encode(encoding))
    assert [(row.line, row.value) for row in read_json_list(listed)] == [(2, {"text": SEPARATORS})]
    table.write_bytes('video;words\r\na.mp4;"one\r\ntwo; ""three"""\r\n'.encode(encoding))
    assert read_table(table) == [{"video": "a.mp4", "words": 'one\r\ntwo; "three"'}]


@pytest.mark.parametrize("mark", list(SEPARATORS[1::2]))
def test_our_own_lines_are_one_line_for_every_reader(tmp_path, mark):
    path, value = tmp_path / "a.jsonl", {"text": f"first{mark}second"}
    write_json_lines(path, [value, value])
    assert [row.value for row in read_json_lines(path)] == [value, value]
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [value, value]
    assert json_line({"text": "é"}) == '{"text": "é"}'


def test_a_line_that_is_none_is_an_error_of_its_own(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{cut\n{"a": "caf\xe9"}\n' + b"[" * 100_000 + b'\n{"a": 2}\n')
    rows = list(read_json_lines(path))
    assert [row.value for row in rows] == [{"a": 1}, None, None, None, {"a": 2}]
    assert rows[1].error.startswith("This is no JSON")
    assert rows[2].error == "This is not UTF-8."
    assert [row.text for row in rows[1:3]] == ["{cut", '{"a": "caf\ufffd"}']


def test_a_file_in_another_encoding_is_refused_with_the_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("video\ncafé.mp4\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"a\.csv, line 2: byte 0xe9 is not utf-8"):
        read_text(path)


def test_a_cell_may_be_as_long_as_it_is(tmp_path):
    (tmp_path / "a.csv").write_text(f'video,words\na,"{"x" * 300_000}"\n')
    assert len(read_cells(tmp_path / "a.csv")[1][1]) == 300_000


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=HYPERLINK("x")'])
def test_no_cell_of_a_table_is_a_formula(tmp_path, formula):
    path = tmp_path / "a.csv"
    write_table(path, ("words", "seconds"), [{"words": formula, "seconds": -1.5}])
    ((words, seconds),) = list(csv.reader(io.StringIO(path.read_text(), newline="")))[1:]
    assert (words, seconds) == (f"'{formula}", "-1.5")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_reader_of_a_users_file_takes_them(tmp_path, encoding):
    def write(name, text):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    said = "a\u2028b"
    prompts = write("p.jsonl", plain({"video": "v.mp4", "text": said}) + "\n")
    assert read_records(prompts) == [{"video": "v.mp4", "text": said}]
    listed = write("p.json", plain([{"video": "v.mp4", "text": said}]))
    assert read_records(listed) == [{"video": "v.mp4", "text": said}]
    messages = [
        {"role": "user", "content": f"<video>{said}"},
        {"role": "assistant", "content": "x"},
    ]
    data = write("s.jsonl", plain({"messages": messages, "videos": ["v.mp4"]}) + "\n")
    (sample,) = read_samples(data)
    assert sample.conversation.messages[0].text == said
    own = write("e.jsonl", plain({"video": "v.mp4", "question": said, "answers": ["x"]}) + "\n")
    assert [item.question for item in BENCHMARKS["jsonl"].items(own)] == [said]
    (tmp_path / "v.mp4").write_bytes(b"x")
    for name, text in (("l.txt", "v.mp4\r\n"), ("l.csv", "id,video\r\n1,v.mp4\r\n")):
        assert [one.name for one in find_inputs([write(name, text)])] == ["v"]
    ranges = write("r.csv", "start,end\r\n0,4.5\r\n0:04.5, 0:10\r\n")
    assert read_ranges(ranges) == [(0.0, 4.5), (4.5, 10.0)]


def test_what_answer_writes_it_reads(tmp_path):
    records = [{"video": "v.mp4", "text": SEPARATORS}, {"video": "v.mp4", "text": "ok"}]
    write_records(tmp_path / "a.jsonl", records)
    assert read_records(tmp_path / "a.jsonl") == records


def test_a_null_field_is_not_given_and_a_list_of_one_medium_is_that_medium():
    record = {"video": ["v.mp4"], "text": None, "question": "<video>what?"}
    question = understand(record)
    assert (question.text, question.medium) == ("<video>what?", "v.mp4")


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ({"video": ["a.mp4", "b.mp4"]}, r'video is \["a.mp4", "b.mp4"\]'),
        ({"video": {"path": "a.mp4"}}, "must be the name of one file"),
        ({"video": "a.mp4", "image": "b.jpg"}, "names a video and an image"),
    ],
)
def test_a_record_with_several_media_is_refused_by_name(media, words):
    with pytest.raises(RequestRefused, match=words):
        understand(media | {"text": "what?"}, insert="left")
    assert understand({"video": "a", "image": "b", "text": "?"}, media_type="image", insert="left")
