"""Animated pictures: every one of them, for as long as its file says."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinema.errors import MediaError
from kinema.types import FrameSampling
from kinema.video import Workers, load_frames, load_image, plan, probe
from kinema.video.info import timeline
from support.clips import board, read_board, read_boards

MILLISECONDS = [100, 200, 100, 300, 100, 100, 100, 1000]
BEGINS = [0.0, 0.1, 0.3, 0.4, 0.7, 0.8, 0.9, 1.0]
KINDS = ("avif", "webp", "gif", "png")


def animated(kind: str, *, alpha: bool = False, count: int = 8) -> bytes:
    pictures = [Image.fromarray(board(i)) for i in range(count)]
    if alpha:
        for picture in pictures:
            mask = np.full((64, 96), 255, np.uint8)
            mask[60:] = 0
            picture.putalpha(Image.fromarray(mask))
    buffer = io.BytesIO()
    how = {"lossless": True} if kind == "webp" else {}
    pictures[0].save(
        buffer,
        kind.upper(),
        save_all=True,
        append_images=pictures[1:],
        duration=MILLISECONDS[:count],
        **how,
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_shown_for_as_long_as_its_file_says(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(animated(kind))
    frames = load_frames(path, fps=20)
    assert read_boards(frames.pixels) == list(range(8))
    assert frames.seconds.tolist() == pytest.approx(BEGINS)
    assert (frames.total_frames, frames.duration_seconds) == (8, pytest.approx(2.0))
    info = probe(path)
    assert (info.num_frames, info.duration_seconds) == (8, pytest.approx(2.0))
    assert info.warnings == ()
    assert timeline(path).duration_seconds == pytest.approx(2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_picture_keeps_its_length_when_some_are_sampled(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(animated(kind))
    # Middles of four slices of two seconds: 0.25, 0.75, 1.25 and 1.75 s.
    assert load_frames(path, num_frames=4).indices.tolist() == [1, 4, 7]
    assert load_frames(path, at=[1.9]).indices.tolist() == [7]
    assert plan(path, FrameSampling(num_frames=4)).indices == (1, 4, 7)
    whole = load_frames(path, fps=20)
    assert load_frames(whole, num_frames=4).indices.tolist() == [1, 4, 7]
    # Of a part it is not known how long its last picture is shown: as long as they usually are.
    assert load_frames(whole[:4], num_frames=2).indices.tolist() == [1, 2]
    with Workers(1) as workers:
        assert workers.load_frames(path, num_frames=4).indices.tolist() == [1, 4, 7]


def test_the_first_picture_of_an_animated_one(tmp_path: Path) -> None:
    for kind in KINDS:
        assert read_board(load_image(animated(kind)).pixels[0]) == 0


def test_transparency_of_an_animated_avif_is_laid_on_white() -> None:
    frames = load_frames(animated("avif", alpha=True), fps=20)
    assert frames.seconds.tolist() == pytest.approx(BEGINS)
    assert frames.pixels[:, 62].min() > 250
    assert [int(p[5, 90:].mean()) // 100 for p in frames.pixels] == [0] * 8


def test_an_avif_is_known_by_its_compatible_brands_too() -> None:
    data = animated("avif", count=1)
    assert data[4:12] == b"ftypavif"
    assert read_board(load_image(b"\0\0\0\x20ftypmif1" + data[12:]).pixels[0]) == 0


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("kind", ["avif", "webp"])
def test_damaged_pictures_are_media_errors_or_pictures(kind: str, count: int) -> None:
    data, chance, failed = animated(kind, count=count), random.Random(0), 0
    for _ in range(60):
        mutant = bytearray(data)
        for _ in range(chance.randint(1, 30)):
            mutant[chance.randrange(len(data))] = chance.randrange(256)
        try:
            load_frames(
                bytes(mutant[: chance.choice((len(data), chance.randrange(16, len(data))))])
            )
        except MediaError:
            failed += 1
    assert failed > 20
