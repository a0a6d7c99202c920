"""Names that read like something else, and files that do not stay where they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinema.cli.app import run
from kinema.errors import MediaNotFound, SourceChanged
from kinema.files import stamp_of, unchanged
from kinema.jobs.inputs import find_inputs
from kinema.tasks.caption import story
from kinema.video import LOCAL, Access, UrlRules, cache, load_frames
from kinema.video.url_gate import parse
from support.clips import clip_bytes, make_clip, read_boards
from support.web import reply, serve

NAMES = ("data:,x.mp4", "file.tar::z.mp4", "a::b.mp4", "http:x.mp4", "concat:a|b.mp4", "a b%20.mp4")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "clip.mp4"
    make_clip(path, num_frames=20)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_file_is_read_whatever_its_name_reads_like(
    name: str, is_absolute: bool, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, tmp_path / name)
    word = str(tmp_path / name) if is_absolute else name
    frames = load_frames(word, num_frames=4)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert [one.source for one in find_inputs([word])] == [word]
    (tmp_path / "list.txt").write_text(name)
    assert [one.source for one in find_inputs(["list.txt"])] == [name]
    if is_absolute:
        return
    assert run(["caption", word, "-m", "echo", "-q", "-o", "out"]) == 0
    (record,) = map(json.loads, Path("out/captions.jsonl").read_text().splitlines())
    assert (record["source"], record["status"]) == (word, "ok")


def test_a_stranger_names_no_file_by_an_address(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, tmp_path / "data:,x.mp4")
    with pytest.raises(Exception, match="no video or picture"):
        load_frames("data:,x.mp4", access=Access(roots=(tmp_path,)))


@pytest.mark.parametrize("command", [["probe"], ["chat"], ["caption"]])
@pytest.mark.parametrize("name", ["-clip.mp4", "--clip.mp4", "-clip.JPG"])
def test_a_name_that_begins_with_a_dash_gets_a_hint(
    command: list[str],
    name: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, tmp_path / name)
    assert run([*command, name, "What?"][: 3 if command == ["chat"] else 2]) == 2
    assert f"A file of this name is written ./{name}" in capsys.readouterr().err
    if name.endswith("mp4"):
        assert run(["probe", f"./{name}"]) == 0


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a clip.mp4", "/a%20clip.mp4"),
        ("/a%20clip.mp4", "/a%20clip.mp4"),
        ("/a clip.mp4?key=b c ", "/a%20clip.mp4?key=b%20c"),
    ],
)
def test_a_space_in_an_address_is_sent_as_browsers_send_it(written: str, sent: str) -> None:
    assert parse(f"https://cdn.test{written}").target == sent


def test_a_video_behind_an_address_with_a_space_is_read(clip: Path) -> None:
    access = Access(urls=UrlRules(private_hosts=("localhost",)))
    with serve(reply(clip.read_bytes())) as server:
        frames = load_frames(f"http://localhost:{server.port}/a clip.mp4", access=access)
    assert len(frames) == 8
    assert frames.source.endswith("/a%20clip.mp4")


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other.mp4")
    make_clip(other, num_frames=7)
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "said"), [(_delete, "deleted or moved"), (_replace, "replaced")]
)
def test_a_file_that_changes_while_it_is_read_is_named_so(
    change: Callable[[Path], None],
    said: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(clip, path)
    find = cache.cached_index

    def find_and_change(media: Any) -> Any:
        index = find(media)
        change(path)
        return index

    monkeypatch.setattr(cache, "cached_index", find_and_change)
    with pytest.raises(SourceChanged, match=said):
        load_frames(path)


def test_a_file_that_grows_while_it_is_read_is_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recording.ts"
    data = clip_bytes("ts", num_frames=100)
    path.write_bytes(data[: len(data) // 2])
    find = cache.cached_index

    def find_and_record(media: Any) -> Any:
        index = find(media)
        path.write_bytes(data)
        return index

    monkeypatch.setattr(cache, "cached_index", find_and_record)
    frames = load_frames(path, num_frames=4)
    assert read_boards(frames.pixels) == frames.indices.tolist()


@pytest.mark.parametrize(
    ("change", "said"), [(_delete, "deleted or moved"), (_replace, "replaced or written to")]
)
def test_a_run_names_a_video_that_did_not_stay(
    change: Callable[[Path], None],
    said: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changing, staying = tmp_path / "changing.mp4", tmp_path / "staying.mp4"
    shutil.copy(clip, changing)
    shutil.copy(clip, staying)
    look = story.look_at

    def look_and_change(source: str, *others: Any) -> Any:
        plan = look(source, *others)
        if source == str(changing):
            change(changing)
        return plan

    monkeypatch.setattr(story, "look_at", look_and_change)
    words = ["caption", str(changing), str(staying), "-m", "echo", "-q"]
    assert run([*words, "-o", str(tmp_path / "out")]) == 3
    lines = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
    records = {Path(r["source"]).stem: r for r in map(json.loads, lines)}
    assert records["staying"]["status"] == "ok"
    assert said in records["changing"]["error"]


def test_what_was_never_there_is_not_said_to_have_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(MediaNotFound), unchanged(path, stamp_of(path)):
        load_frames(path, access=LOCAL)
