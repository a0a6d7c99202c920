"""Row 21: paths out of the media folder are refused, all with the same words."""

from __future__ import annotations

import os
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema.errors import MediaError, PathNotAllowed
from kinema.video import Access, Workers, load_frames, server_access
from kinema.video.path_gate import open_below
from support.clips import make_clip

pytestmark = pytest.mark.fault(21)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """``safe/clip.mp4`` is allowed; the same file lies in ``safe_evil`` and ``secret``."""
    for folder in ("safe/inner", "safe_evil", "secret"):
        (tmp_path / folder).mkdir(parents=True)
    make_clip(tmp_path / "safe/clip.mp4", num_frames=10)
    for copy in ("safe/inner/clip.mp4", "safe_evil/clip.mp4", "secret/clip.mp4"):
        (tmp_path / copy).write_bytes((tmp_path / "safe/clip.mp4").read_bytes())
    with tarfile.open(tmp_path / "safe/shard.tar", "w") as tar:
        tar.add(tmp_path / "safe/clip.mp4", "clip.mp4")
    (tmp_path / "secret/shard.tar").write_bytes((tmp_path / "safe/shard.tar").read_bytes())
    return tmp_path


ALLOWED = [
    "{}/clip.mp4",
    "{}/inner/clip.mp4",
    "file://{}/clip.mp4",
    "{}/inner/../clip.mp4",
    "{}/shard.tar::clip.mp4",
]


@pytest.mark.parametrize("name", ALLOWED)
def test_files_below_the_folder_are_read(disk: Path, name: str) -> None:
    access = server_access(roots=(disk / "safe",))
    assert len(load_frames(name.format(disk / "safe"), num_frames=2, access=access)) == 2


def link(disk: Path, target: str) -> str:
    (disk / "safe/link.mp4").symlink_to(target)
    return str(disk / "safe/link.mp4")


REFUSED: dict[str, Callable[[Path], str]] = {
    "elsewhere": lambda disk: f"{disk}/secret/clip.mp4",
    "not there": lambda disk: f"{disk}/secret/none.mp4",
    "not there, inside": lambda disk: f"{disk}/safe/none.mp4",
    "system": lambda disk: "file:///etc/passwd",
    "system, escaped": lambda disk: "file:///%65tc/passwd",
    "upwards": lambda disk: f"{disk}/safe/../secret/clip.mp4",
    "upwards, escaped": lambda disk: f"file://{disk}/safe/%2e%2e/secret/clip.mp4",
    "sibling with the same beginning": lambda disk: f"{disk}_evil/clip.mp4".replace(
        str(disk), f"{disk}/safe"
    ),
    "other case": lambda disk: f"{disk}/SAFE/clip.mp4",
    "link out": lambda disk: link(disk, "../secret/clip.mp4"),
    "absolute link out": lambda disk: link(disk, f"{disk}/secret/clip.mp4"),
    "link to nothing": lambda disk: link(disk, "nowhere"),
    "the folder itself": lambda disk: f"{disk}/safe",
    "device": lambda disk: "/dev/zero",
    "archive elsewhere": lambda disk: f"{disk}/secret/shard.tar::clip.mp4",
    "relative": lambda disk: "clip.mp4",
    "name with NUL": lambda disk: f"{disk}/safe/clip.mp4\0.jpg",
    "very long name": lambda disk: f"{disk}/safe/" + "a" * 9999,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_all_else_is_refused_with_the_same_words(disk: Path, kind: str) -> None:
    access = server_access(roots=(disk / "safe",))
    with pytest.raises(MediaError) as caught:
        load_frames(REFUSED[kind](disk), access=access)
    if "name" not in kind:
        assert type(caught.value) is PathNotAllowed
        assert str(caught.value) == "This path may not be read here."
    assert str(disk) not in str(caught.value) + caught.value.hint


def test_a_pipe_in_the_folder_does_not_block(disk: Path) -> None:
    os.mkfifo(disk / "safe/pipe.mp4")
    with pytest.raises(PathNotAllowed):
        load_frames(disk / "safe/pipe.mp4", access=server_access(roots=(disk / "safe",)))


def test_without_a_folder_no_file_is_read_at_all(disk: Path) -> None:
    for name in (f"{disk}/safe/clip.mp4", "/etc/passwd", [f"{disk}/safe/clip.mp4"]):
        with pytest.raises(PathNotAllowed):
            load_frames(name, access=server_access())


def test_links_inside_the_folder_are_followed(disk: Path) -> None:
    source = link(disk, "inner/clip.mp4")
    assert len(load_frames(source, num_frames=1, access=Access(roots=(disk / "safe",)))) == 1


def test_a_worker_keeps_to_the_same_folders(disk: Path) -> None:
    access = server_access(roots=(disk / "safe",))
    with Workers(1) as workers:
        assert len(workers.load_frames(disk / "safe/clip.mp4", num_frames=2, access=access)) == 2
        with pytest.raises(PathNotAllowed):
            workers.load_frames(disk / "secret/clip.mp4", access=access)


def test_a_link_swapped_in_after_the_check_leads_nowhere(disk: Path) -> None:
    """The race: the folder turns into a link while files in it are being opened."""
    secret = (disk / "secret/clip.mp4").read_bytes() + b"secret"
    (disk / "secret/clip.mp4").write_bytes(secret)
    inner, aside = disk / "safe/inner", disk / "safe/aside"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inner.rename(aside)
            inner.symlink_to(disk / "secret")
            inner.unlink()
            aside.rename(inner)

    swapping = threading.Thread(target=swap)
    swapping.start()
    outcomes = set()
    try:
        tries, give_up_at = 0, time.monotonic() + 30
        # Threads take turns as they like: a busy machine may need more tries to see both.
        while tries < 2000 or (len(outcomes) < 2 and time.monotonic() < give_up_at):
            tries += 1
            try:
                file = open_below((disk / "safe",), inner / "clip.mp4")
            except PathNotAllowed:
                outcomes.add("refused")
            else:
                assert file.num_bytes != len(secret)
                outcomes.add("opened")
    finally:
        stop.set()
        swapping.join()
    assert outcomes == {"refused", "opened"}
