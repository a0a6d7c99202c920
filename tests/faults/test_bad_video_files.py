"""Files that are no video: a typed error, one plain sentence and a hint, never a traceback."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema.errors import (
    DecodeFailed,
    EmptyRange,
    MediaError,
    MediaNotFound,
    NoFrames,
    NotAFile,
    NotMedia,
    NoVideoStream,
    Truncated,
)
from kinema.video import load_frames, plan, probe
from support.clips import make_audio, make_clip

Reader = Callable[[Path], object]
READERS: list[Reader] = [load_frames, probe, plan]


def fails_with(kind: type[MediaError], source: Path, text: str) -> None:
    for read in READERS:
        with pytest.raises(kind) as caught:
            read(source)
        assert type(caught.value) is kind
        assert text in str(caught.value)
        assert caught.value.hint
        assert str(caught.value).count("\n") == 0


@pytest.mark.fault(1)
def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    fails_with(MediaNotFound, tmp_path / "none.mp4", "There is no file")


@pytest.mark.fault(1)
def test_a_directory_is_no_file(tmp_path: Path) -> None:
    fails_with(NotAFile, tmp_path, "is a directory")


@pytest.mark.fault(1)
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    fails_with(NotAFile, tmp_path / "pipe.mp4", "device or pipe")
    fails_with(NotAFile, Path("/dev/zero"), "device or pipe")


@pytest.mark.fault(1)
def test_a_file_that_may_not_be_read_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "closed.mp4").write_bytes(b"x")
    (tmp_path / "closed.mp4").chmod(0)
    was_root = os.getuid() == 0
    if was_root:
        os.setreuid(65534, -1)  # permissions are asked for the real user, and root has them all
    try:
        fails_with(NotAFile, tmp_path / "closed.mp4", "permission denied")
    finally:
        if was_root:
            os.setreuid(0, -1)


@pytest.mark.fault(2)
def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    fails_with(NotMedia, tmp_path / "empty.mp4", "is empty")


@pytest.mark.fault(2)
@pytest.mark.parametrize("page", ["<html><body>404", "<!DOCTYPE html><p>no", "\n <HTML>x"])
def test_a_saved_error_page_is_recognised(tmp_path: Path, page: str) -> None:
    (tmp_path / "page.mp4").write_text(page)
    fails_with(NotMedia, tmp_path / "page.mp4", "probably an error page")


@pytest.mark.fault(2, 20)
@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile x.mp4", "#EXTM3U\nx.ts", "hello"])
def test_text_and_playlists_are_never_opened(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.mp4").write_text(text)
    fails_with(NotMedia, tmp_path / "list.mp4", "is a text file")


@pytest.mark.fault(2)
def test_noise_is_no_media(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(bytes(range(128, 256)) * 64)
    fails_with(NotMedia, tmp_path / "noise.mp4", "no video that can be read")


@pytest.mark.fault(3)
def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    make_audio(tmp_path / "sound.mp4")
    fails_with(NoVideoStream, tmp_path / "sound.mp4", "only audio")


@pytest.mark.fault(4)
def test_a_recording_without_its_table_of_contents_is_truncated(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=30, container="mp4")
    data = buffer.getvalue()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"moov") - 4])
    fails_with(Truncated, tmp_path / "cut.mp4", "table of contents")


@pytest.mark.fault(7)
def test_a_track_without_frames_is_no_frames(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=1, container="mp4", options={"movflags": "empty_moov"})
    with pytest.raises(MediaError) as caught:
        load_frames(without_samples(buffer.getvalue()))
    assert isinstance(caught.value, NoFrames | DecodeFailed)


def without_samples(data: bytes) -> bytes:
    """Set the sample count of every table of an MP4 to zero."""
    out = bytearray(data)
    for table, offset in ((b"stsz", 12), (b"stts", 8), (b"stsc", 8), (b"stco", 8)):
        at = data.index(table)
        out[at + offset : at + offset + 4] = bytes(4)
    return bytes(out)


@pytest.mark.fault(16)
def test_a_start_beyond_the_end_is_an_empty_range(tmp_path: Path) -> None:
    make_clip(tmp_path / "c.mp4", num_frames=50)
    with pytest.raises(EmptyRange, match=r"lasts 2\.00 s"):
        load_frames(tmp_path / "c.mp4", start=5)


@pytest.mark.fault(5)
def test_a_payload_cut_short_says_how_much_was_decoded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    make_clip(buffer, num_frames=60, container="mp4", width=320, height=240)
    data = buffer.getvalue()
    moov = data.index(b"moov") - 4
    path = tmp_path / "third.mp4"
    body = data.index(b"mdat") + 4
    path.write_bytes(
        data[:body]
        + data[body : body + (moov - body) // 3]
        + bytes(2 * (moov - body) // 3 + 2)
        + data[moov:]
    )
    try:
        frames = load_frames(path, num_frames=60)
    except MediaError:
        return
    assert len(frames) == 60 or any("Decoded" in w for w in frames.warnings)
