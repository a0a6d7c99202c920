"""Which videos ``kinema caption`` takes: tars, globs, lists, a first few, those that failed."""

import json
import os
import tarfile

import pytest

from kinema.cli.app import run
from kinema.errors import NotMedia, UsageError
from kinema.jobs.inputs import find_inputs
from support.clips import make_clip


def caption(*words):
    return run(["caption", *map(str, words), "-m", "echo", "--quiet"])


def records(out, name="captions.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def names(out):
    return [record["source"].rpartition("/")[2] for record in records(out)]


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for i, name in enumerate(("b.mp4", "a.mkv", "deep/c.MOV")):
        make_clip(folder / name, num_frames=10 + i, fps=5)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


def test_members_of_a_tar_are_described_in_place(videos, tmp_path):
    archive = tmp_path / "videos.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(videos, "data")
    assert caption(archive, "-o", tmp_path / "out", "--export", "srt") == 0
    members = ("data/a.mkv", "data/b.mp4", "data/deep/c.MOV")
    sources = [record["source"] for record in records(tmp_path / "out")]
    assert sources == [f"{archive}::{member}" for member in members]
    assert {p.name for p in (tmp_path / "out").glob("*.srt")} == {"a.srt", "b.srt", "c.srt"}


def test_a_folder_is_searched_whole_and_a_glob_as_it_says(videos, tmp_path):
    assert caption(videos, "-o", tmp_path / "whole") == 0
    assert names(tmp_path / "whole") == ["a.mkv", "b.mp4", "c.MOV"]
    assert caption(videos / "*.m*", "-o", tmp_path / "some") == 0
    assert names(tmp_path / "some") == ["a.mkv", "b.mp4"]
    assert caption(videos / "**/*.MOV", "-o", tmp_path / "deep") == 0
    assert names(tmp_path / "deep") == ["c.MOV"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# mine\nb.mp4\n\ndeep/c.MOV\n"),
        ("list.csv", "video,label\nb.mp4,x\ndeep/c.MOV,y\n"),
        ("list.jsonl", '{"path": "b.mp4"}\n{"path": "deep/c.MOV"}\n'),
        ("list.json", '["b.mp4", {"video": "deep/c.MOV"}]'),
    ],
)
def test_a_list_names_videos_beside_itself(videos, tmp_path, name, text):
    (videos / name).write_text(text)
    assert caption(videos / name, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["b.mp4", "c.MOV"]


def test_the_same_video_named_twice_is_described_once(videos, tmp_path):
    assert caption(videos / "b.mp4", videos / "*.mp4", videos, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["b.mp4", "a.mkv", "c.MOV"]


def test_a_limit_takes_the_first_and_without_it_only_the_rest_is_left(videos, tmp_path):
    out = tmp_path / "out"
    assert caption(videos, "-o", out, "--limit", 2) == 0
    assert names(out) == ["a.mkv", "b.mp4"]
    first = records(out)
    assert caption(videos, "-o", out) == 0
    assert records(out)[:2] == first
    assert names(out) == ["a.mkv", "b.mp4", "c.MOV"]


def test_what_failed_is_tried_again_only_when_asked(videos, tmp_path, capsys):
    out, broken = tmp_path / "out", videos / "broken.mp4"
    whole = make_clip(tmp_path / "whole.mp4", num_frames=10, fps=5).read_bytes()
    broken.write_bytes(b"\0" * len(whole))
    stamp = broken.stat()
    assert caption(videos, "-o", out) == 3
    (failed,) = records(out, "failed.jsonl")
    assert failed["source"].endswith("broken.mp4")
    repaired(broken, whole, stamp)
    assert caption(videos, "-o", out) == 3
    assert caption(videos, "-o", out, "--retry-failed") == 0
    assert records(out, "failed.jsonl") == []
    assert all(record["status"] == "ok" for record in records(out))


def repaired(path, content, stamp):
    """The right bytes with the wrong ones' size and time, as after a restored backup."""
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.csv", "name\nb.mp4\n", "video"),
        ("list.jsonl", "{", "no list"),
        ("list.txt", "", "No video"),
        ("list.txt", "https://example.com/a.mp4?key=1", "is an address"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        find_inputs([path])


def test_an_address_and_a_compressed_tar_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="is an address"):
        find_inputs(["https://example.com/a.mp4?key=1"])
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + b"\0" * 600)
    with pytest.raises(NotMedia, match="no readable tar"):
        find_inputs([tmp_path / "a.tar"])


def test_a_limit_on_a_finished_folder_loses_no_record(videos, tmp_path):
    out = tmp_path / "out"
    assert caption(videos, "-o", out) == 0
    whole = sorted((out / "captions.jsonl").read_text().splitlines())
    assert len(whole) > 1
    assert caption(videos, "-o", out, "--limit", 1) == 0
    assert sorted((out / "captions.jsonl").read_text().splitlines()) == whole


def test_files_that_another_program_wrote_are_kept(videos, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "triage.csv").write_text("my notes")
    assert caption(videos, "-o", out) == 2
    said = capsys.readouterr().err
    assert "triage.csv is there already" in said
    assert "--force" in said
    assert (out / "triage.csv").read_text() == "my notes"
    assert [path.name for path in out.iterdir()] == ["triage.csv"]
    assert caption(videos, "-o", out, "--force") == 0
    one = tmp_path / "result.json"
    one.write_text("{}")
    assert caption(videos, "--limit", 1, "--result-path", one) == 2
    assert one.read_text() == "{}"
