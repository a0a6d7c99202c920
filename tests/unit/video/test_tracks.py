"""Files with several video tracks: the film that players show, or the track that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinema.captioning.exports.pictures import middles
from kinema.captioning.records import VideoRecord
from kinema.cli.app import run
from kinema.errors import NoVideoStream, UsageError
from kinema.types import Frames, FrameSampling
from kinema.video import Workers, find_shots, load_frames, plan, probe
from kinema.video.info import timeline
from kinema.video.sound import load_sound
from support.clips import board, join_tracks, make_clip, read_board, read_boards

CONTAINERS = ("mp4", "mov", "mkv", "ts")


def make_track(path: Path, *, first: int, num_frames: int, **how: object) -> Path:
    """A clip whose boards count from ``first``, so that a frame tells which track it is from."""
    height, width = int(how.get("height", 64)), int(how.get("width", 96))
    pictures = [board(first + i, height=height, width=width) for i in range(num_frames)]
    options = {"g": "5", "bf": "0"}
    make_clip(path, num_frames=num_frames, pictures=pictures, options=options, **how)
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parts")
    return {
        "thumbnail": make_track(folder / "thumbnail.mp4", first=1000, num_frames=1),
        "long": make_track(folder / "long.mp4", first=100, num_frames=50),
        "short": make_track(folder / "short.mp4", first=200, num_frames=10),
        "large": make_track(folder / "large.mp4", first=300, num_frames=50, height=128, width=192),
    }


def read_all(path: Path, **how: object) -> list[int]:
    return read_boards(load_frames(path, fps=1000, **how).pixels)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("default", [None, 0, 1])
def test_one_picture_before_the_film_is_not_the_film(
    container: str, default: int | None, parts: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{container}"
    join_tracks(path, parts["thumbnail"], parts["long"], default=default)
    frames = load_frames(path, num_frames=8)
    assert read_boards(frames.pixels) == [100 + i for i in frames.indices]
    assert frames.total_frames == 50
    info = probe(path)
    assert (info.track, info.num_frames) == (1, 50)
    assert [track.index for track in info.tracks] == [0, 1]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_the_track_that_is_marked_is_shown(
    container: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{container}"
    join_tracks(path, parts["long"], parts["short"], default=1)
    assert read_all(path) == list(range(200, 210))
    assert [track.default for track in probe(path).tracks] == [False, True]


@pytest.mark.parametrize("container", CONTAINERS)
def test_without_a_mark_the_longest_is_shown_then_the_largest(
    container: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    longest = join_tracks(tmp_path / f"a.{container}", parts["short"], parts["long"])
    if container == "ts":  # nothing is marked there, and MP4's own muxer marks the first
        assert read_all(longest) == list(range(100, 150))
        largest = join_tracks(tmp_path / f"b.{container}", parts["long"], parts["large"])
        assert read_all(largest) == list(range(300, 350))
    info = probe(longest)
    assert f"2 video tracks; track {info.track} is read, as players show it." in info.warnings


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    "decoder", ["pyav", pytest.param("torchcodec", marks=pytest.mark.needs_program("ffmpeg"))]
)
def test_every_track_can_be_asked_for(
    container: str, decoder: str, parts: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{container}"
    join_tracks(path, parts["thumbnail"], parts["long"], parts["short"])
    for track, first, count in ((0, 1000, 1), (1, 100, 50), (2, 200, 10)):
        frames = load_frames(path, fps=1000, track=track, decoder=decoder)
        assert read_boards(frames.pixels) == list(range(first, first + count))
        assert len(timeline(path, track=track)) == count
        assert probe(path, track=track).num_frames == count
        assert plan(path, FrameSampling(fps=1000, track=track)).total_frames == count
        assert find_shots(path, track=track)[-1].end_index == count
    with pytest.raises(NoVideoStream, match="no video track 3; it has 3 video tracks"):
        load_frames(path, track=3)


def test_a_track_and_a_sampling_of_the_family_go_together(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    path = join_tracks(tmp_path / "a.mkv", parts["long"], parts["short"])
    asked = FrameSampling(track=1, start=0.1).or_default(FrameSampling(num_frames=2))
    assert asked == FrameSampling(track=1, start=0.1, num_frames=2)
    assert {n // 100 for n in read_boards(load_frames(path, sampling=asked).pixels)} == {2}


def test_a_cover_is_read_when_it_is_asked_for(parts: dict[str, Path], tmp_path: Path) -> None:
    picture = make_track(
        tmp_path / "cover.mov", first=7, num_frames=1, codec="png", pixel_format="rgb24"
    )
    path = join_tracks(tmp_path / "a.mp4", picture, parts["long"], cover=0)
    info = probe(path)
    (cover,) = (track.index for track in info.tracks if track.cover)
    assert (info.num_frames, info.warnings) == (50, ())
    assert read_all(path, track=cover) == [7]


def test_what_has_no_tracks_has_no_second_one(tmp_path: Path) -> None:
    pictures = np.stack([board(i) for i in range(3)])
    folder = tmp_path / "frames"
    folder.mkdir()
    frames = load_frames(pictures)
    assert isinstance(frames, Frames)
    for source in (pictures, frames, list(pictures)):
        assert len(load_frames(source, fps=1000, track=0)) == 3
        with pytest.raises(NoVideoStream, match="no video track 1"):
            load_frames(source, track=1)
    with pytest.raises(UsageError, match="track"):
        FrameSampling(track=-1)


def test_a_process_of_its_own_tells_of_tracks(parts: dict[str, Path], tmp_path: Path) -> None:
    path = join_tracks(tmp_path / "a.mkv", parts["thumbnail"], parts["long"], parts["short"])
    with Workers(1) as workers:
        assert workers.probe(path) == probe(path)
        assert workers.probe(path, track=2) == probe(path, track=2)
        assert len(workers.timeline(path, track=2)) == 10
        assert len(workers.find_shots(path, track=2)) == 1
        sound = workers.load_sound(path, start_seconds=0, end_seconds=1, track=2)
        assert len(sound.samples) == len(
            load_sound(path, start_seconds=0, end_seconds=1, track=2).samples
        )
    assert json.loads(json.dumps(probe(path).to_dict()))["tracks"][1]["codec"] == "h264"


def test_captions_are_made_of_the_track_that_was_asked_for(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    path = join_tracks(tmp_path / "a.mkv", parts["long"], parts["short"])
    out = tmp_path / "out"
    words = ["caption", str(path), "-m", "echo", "-q", "-o", str(out), "--fps", "10"]
    assert run([*words, "--track", "1"]) == 0
    record = json.loads((out / "captions.jsonl").read_text())
    assert record["duration_seconds"] == pytest.approx(0.4)
    assert "[video 4 frames" in record["captions"][0]["text"]
    assert record["info"]["track"] == 1
    pictures = [middle for middle in middles(VideoRecord.from_dict(record), load_frames) if middle]
    assert [read_board(np.asarray(picture)) // 100 for picture in pictures] == [2]
