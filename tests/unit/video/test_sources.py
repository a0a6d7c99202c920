"""Every form of a source gives the same frames."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinema.errors import MediaNotFound, NotAFile, NotMedia, UsageError
from kinema.families import FAMILIES
from kinema.jobs.clips import Clips
from kinema.messages import Conversation, Message, TextPart, VideoPart
from kinema.types import Frames, FrameSampling, PictureFolder
from kinema.video import Workers, as_frames, load_frames, load_image, probe
from support.clips import board, make_clip, read_boards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``, a tar that holds it twice, and its frames as pictures."""
    folder = tmp_path_factory.mktemp("sources")
    make_clip(folder / "clip.mp4", num_frames=40, options={"g": "12"})
    with tarfile.open(folder / "shard.tar", "w") as tar:
        tar.add(folder / "clip.mp4", "./a/clip.mp4")
        tar.add(folder / "clip.mp4", "0001.mp4")
    (folder / "frames").mkdir()
    for i in range(12):
        Image.fromarray(board(i)).save(folder / "frames" / f"frame_{i}.png")
    return folder


FORMS: dict[str, Callable[[Path], Any]] = {
    "text": lambda folder: str(folder / "clip.mp4"),
    "path": lambda folder: folder / "clip.mp4",
    "file address": lambda folder: f"file://{folder}/clip.mp4",
    "bytes": lambda folder: (folder / "clip.mp4").read_bytes(),
    "bytearray": lambda folder: bytearray((folder / "clip.mp4").read_bytes()),
    "open file": lambda folder: io.BytesIO((folder / "clip.mp4").read_bytes()),
    "tar member": lambda folder: f"{folder}/shard.tar::0001.mp4",
    "tar member with ./": lambda folder: f"{folder}/shard.tar::./a/clip.mp4",
    "tar member without ./": lambda folder: f"{folder}/shard.tar::a/clip.mp4",
    "data address": lambda folder: (
        "data:video/mp4;base64," + base64.b64encode((folder / "clip.mp4").read_bytes()).decode()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_frames(folder: Path, form: str) -> None:
    frames = load_frames(FORMS[form](folder), at=(0.2, 0.8, 1.5))
    assert read_boards(frames.pixels) == frames.indices.tolist() == [5, 20, 37]
    assert "base64" not in frames.source


def test_a_tar_member_that_is_not_there_names_a_near_one(folder: Path) -> None:
    with pytest.raises(MediaNotFound, match=r"no member '0001\.mp3'") as caught:
        load_frames(f"{folder}/shard.tar::0001.mp3")
    assert "'0001.mp4'" in caught.value.hint


def test_the_key_of_a_sample_names_its_video(folder: Path, tmp_path: Path) -> None:
    """WebDataset: files of one sample share all up to the first dot."""
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name in ("part/0001.mp4", "part/0001.json", "0002.mp4", "0002.low.webm", "0003.txt"):
            tar.add(folder / "clip.mp4", name)
    assert len(load_frames(f"{tmp_path}/shard.tar::part/0001", num_frames=3)) == 3
    for no_single_video in ("0002", "0003", "part", "0001"):
        with pytest.raises(MediaNotFound):
            load_frames(f"{tmp_path}/shard.tar::{no_single_video}")


def test_an_archive_or_folder_of_videos_says_how_to_name_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotMedia, match="archive of 2 files") as caught:
        load_frames(folder / "shard.tar")
    assert "shard.tar::a/clip.mp4" in caught.value.hint
    with pytest.raises(NotAFile, match="holds 1 videos") as listed:
        load_frames(folder)
    assert f"{folder}/clip.mp4" in listed.value.hint


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused_with_the_reason(
    folder: Path, tmp_path: Path, mode: Any
) -> None:
    with tarfile.open(tmp_path / "shard.tar", mode) as tar:
        tar.add(folder / "clip.mp4", "clip.mp4")
    with pytest.raises(NotMedia, match="is compressed"):
        load_frames(f"{tmp_path}/shard.tar::clip.mp4")


def test_a_file_that_is_no_tar_has_no_members(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(bytes(range(200)) * 20)
    with pytest.raises(NotMedia, match="no tar file"):
        load_frames(f"{tmp_path}/x.tar::clip.mp4")


def test_a_tar_that_changes_is_read_again(folder: Path, tmp_path: Path) -> None:
    for name in ("first.mp4", "second.mp4"):
        with tarfile.open(tmp_path / "shard.tar", "w") as tar:
            tar.add(folder / "clip.mp4", name)
            tar.add(folder / "clip.mp4", f"again-{name}")
        assert len(load_frames(f"{tmp_path}/shard.tar::{name}", num_frames=2)) == 2


def jpeg(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(board(index)).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


PICTURES: dict[str, Callable[[Path], Any]] = {
    "array": lambda _: np.stack([board(i) for i in range(12)]),
    "array, channels first": lambda _: np.stack([board(i) for i in range(12)]).transpose(
        0, 3, 1, 2
    ),
    "tensor": lambda _: torch.from_numpy(np.stack([board(i) for i in range(12)])),
    "tensor, channels first": lambda _: torch.from_numpy(
        np.stack([board(i) for i in range(12)])
    ).permute(0, 3, 1, 2),
    "list of arrays": lambda _: [board(i) for i in range(12)],
    "list of images": lambda _: [Image.fromarray(board(i)) for i in range(12)],
    "list of paths": lambda folder: [folder / "frames" / f"frame_{i}.png" for i in range(12)],
    "list of contents": lambda _: [jpeg(i) for i in range(12)],
    "folder": lambda folder: folder / "frames",
    "folder as text": lambda folder: str(folder / "frames"),
    "data address": lambda _: (
        "data:video/jpeg;base64," + ",".join(base64.b64encode(jpeg(i)).decode() for i in range(12))
    ),
}


@pytest.mark.parametrize("form", PICTURES)
def test_every_form_of_pictures_gives_them_in_order_one_a_second(folder: Path, form: str) -> None:
    frames = load_frames(PICTURES[form](folder), num_frames=4, start=2)
    assert read_boards(frames.pixels) == frames.indices.tolist() == [3, 5, 8, 10]
    assert frames.seconds.tolist() == [3.0, 5.0, 8.0, 10.0]
    assert frames.total_frames == 12
    assert any("no clock" in warning for warning in frames.warnings)


def test_pictures_take_the_clock_that_they_are_given() -> None:
    frames = as_frames([board(i) for i in range(10)], fps=5)
    assert frames.seconds.tolist() == pytest.approx([i / 5 for i in range(10)])
    assert frames.warnings == ()


def test_only_the_wanted_pictures_of_a_folder_are_read(folder: Path, tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.fromarray(board(4)).save(tmp_path / "4.png")
    assert read_boards(load_frames(tmp_path, single="middle").pixels) == [4]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (np.zeros((2, 8, 8, 3), dtype=np.float32), "float32"),
        (np.zeros((2, 8, 8, 4), dtype=np.uint8), r"\[2, 8, 8, 4\]"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), r"\[0, 8, 8, 3\]"),
        ([], "empty"),
        ([board(0), board(1, height=32)], "96×32"),
        (7, "A int is no video"),
    ],
)
def test_what_is_no_picture_is_named(source: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        load_frames(source)


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotAFile, match="without pictures"):
        load_frames(tmp_path)


@pytest.mark.parametrize("form", ["list of contents", "folder", "tensor"])
def test_an_image_may_come_in_any_form(folder: Path, form: str) -> None:
    image = load_image(PICTURES[form](folder))
    assert isinstance(image, Frames)
    assert read_boards(image.pixels) == [0]
    assert image.warnings == ()


def test_probe_reads_every_form_of_a_file(folder: Path) -> None:
    for form in FORMS.values():
        info = probe(form(folder))
        assert (info.num_frames, info.codec) == (40, "h264")


def test_a_folder_of_pictures_may_say_its_rate(folder: Path) -> None:
    pictures = PictureFolder(folder / "frames", 5.0)
    frames = load_frames(pictures, at=(0.2, 2.0))
    assert read_boards(frames.pixels) == frames.indices.tolist() == [1, 10]
    assert frames.seconds.tolist() == [0.2, 2.0]
    assert (frames.source, frames.warnings) == (str(folder / "frames"), ())
    with Workers(1) as workers:
        again = workers.load_frames(pictures, sampling=FrameSampling(at=(0.2, 2.0)))
    assert np.array_equal(again.pixels, frames.pixels)
    with pytest.raises(UsageError, match="above 0"):
        PictureFolder(folder, 0.0)


def test_questions_about_one_folder_of_pictures_read_it_once(folder: Path) -> None:
    async def ask_twice() -> int:
        with Workers(1) as workers, ThreadPoolExecutor(1) as pool:
            clips = Clips(workers, pool, FAMILIES["echo"])
            said = [
                Conversation((Message("user", (VideoPart(pictures), TextPart(question))),))
                for pictures, question in (
                    (PictureFolder(folder / "frames", 5.0), "one?"),
                    (PictureFolder(folder / "frames", 5.0), "two?"),
                )
            ]
            async with clips.decoded(said[0]), clips.decoded(said[1]):
                return clips.num_decodes

    assert asyncio.run(ask_twice()) == 1
