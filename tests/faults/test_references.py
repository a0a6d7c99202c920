"""Row 20: files and names that try to make the decoder open something else."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from kinema.errors import MediaError
from kinema.video import load_frames, probe
from support.clips import make_clip

pytestmark = pytest.mark.fault(20)

_EPOCH = (0, 1_000_000_000)
"""Access and change: any reading moves the access time."""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real video beside the hostile file, in the working folder, that must not be opened."""
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "canary.mp4", num_frames=10)
    os.utime(tmp_path / "canary.mp4", ns=_EPOCH)
    (tmp_path / "canary.mp4").read_bytes()
    if not was_opened(tmp_path / "canary.mp4"):
        pytest.skip("this file system does not remember when a file was read")
    os.utime(tmp_path / "canary.mp4", ns=_EPOCH)
    return tmp_path / "canary.mp4"


def was_opened(path: Path) -> bool:
    return path.stat().st_atime_ns != _EPOCH[0]


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ncanary.mp4\n#EXT-X-ENDLIST\n"
DASH = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>canary.mp4</BaseURL></MPD>'
LISTS = {
    "concat": b"ffconcat version 1.0\nfile canary.mp4\n",
    "hls": HLS,
    "dash": b'<?xml version="1.0"?>' + DASH,
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    "smil": b"<smil><body><video src='canary.mp4'/></body></smil>",
    "image2": b"canary%d.mp4\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("tail", [b"", b"\0\xff\xfe" * 40], ids=["text", "with binary"])
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat", "mpd", "sdp"])
def test_playlists_open_nothing(canary: Path, kind: str, tail: bytes, suffix: str) -> None:
    hostile = canary.with_name(f"hostile.{suffix}")
    hostile.write_bytes(LISTS[kind] + tail)
    for source in (hostile, hostile.read_bytes()):
        for read in (load_frames, probe):
            with pytest.raises(MediaError):
                read(source)
    assert not was_opened(canary)


@pytest.mark.parametrize(
    "name",
    [
        "subfile,,start,0,end,900,,:canary.mp4",
        "concat:canary.mp4|canary.mp4",
        "file:canary.mp4",
        "pipe:0",
        "cache:canary.mp4",
        "crypto:canary.mp4",
        "async:canary.mp4",
        "canary%d.mp4",
        "lavfi:testsrc",
        "/dev/video0",
        "-i",
    ],
)
def test_names_are_names_and_not_protocols(canary: Path, name: str) -> None:
    with pytest.raises(MediaError):
        load_frames(name)
    assert not was_opened(canary)


def test_a_file_whose_name_looks_like_a_protocol_is_read(canary: Path) -> None:
    for name in ("concat:a.mp4", "-y.mp4", "a b\n★.mp4", "%03d.mp4"):
        canary.with_name(name).write_bytes(canary.read_bytes())
        assert len(load_frames(name, num_frames=2)) == 2


def test_a_track_that_refers_to_another_file_does_not_open_it(canary: Path) -> None:
    data = bytearray(canary.read_bytes())
    os.utime(canary, ns=_EPOCH)
    reference = b"canary.mp4\0"
    at = data.index(b"url ")
    data[at + 4 : at + 8] = bytes(4)  # the flag that says "in this same file"
    data[at + 8 : at + 8] = reference
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url "):
        start = data.index(kind) - 4
        size = int.from_bytes(data[start : start + 4], "big") + len(reference)
        data[start : start + 4] = size.to_bytes(4, "big")
    hostile = canary.with_name("hostile.mp4")
    hostile.write_bytes(data)
    for source in (hostile, bytes(data)):
        with suppress(MediaError):  # reading the pictures that are there is fine as well
            load_frames(source, num_frames=2)
    assert not was_opened(canary)
