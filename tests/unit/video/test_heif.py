"""Photos of phones: a grid of tiles is one picture, or refused by name; never its first tile."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from kinema.errors import DecodeFailed, MediaError, TooLarge
from kinema.video import Access, Budget, Workers, load_frames, load_image, probe, stills
from support.clips import board, read_board
from support.heif import make_heic

PICTURE = board(1234, height=500, width=700)
KINDS = {
    "grid": make_heic(PICTURE, tile=256),
    "grid with thumbnail": make_heic(PICTURE, tile=256, thumbnail=board(7)),
}
WHOLE = {
    "one picture": make_heic(PICTURE),
    "one picture with thumbnail": make_heic(PICTURE, thumbnail=board(7)),
}


@pytest.fixture
def without_libheif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stills, "can_read_heif", lambda: False)


@pytest.fixture
def with_libheif() -> None:
    pytest.importorskip("pillow_heif")


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures("without_libheif")
def test_a_photo_of_tiles_is_refused_where_nothing_puts_it_together(data: bytes) -> None:
    for read in (load_frames, load_image, probe):
        with pytest.raises(DecodeFailed, match="photo of several tiles") as caught:
            read(data)
        assert "kinema[heic]" in caught.value.hint


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@pytest.mark.usefixtures("without_libheif")
def test_a_photo_of_one_picture_is_read_by_ffmpeg(data: bytes) -> None:
    frames = load_image(data)
    assert frames.pixels.shape == (1, 500, 700, 3)
    assert read_board(frames.pixels[0]) == 1234


@pytest.mark.parametrize("data", (KINDS | WHOLE).values(), ids=KINDS | WHOLE)
@pytest.mark.usefixtures("with_libheif")
def test_every_photo_is_put_together_by_libheif(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.HEIC"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data), [path]):
        frames = load_frames(source)
        assert frames.pixels.shape == (1, 500, 700, 3)
        assert read_board(frames.pixels[0]) == 1234
        assert np.abs(frames.pixels[0].astype(int) - PICTURE).mean() < 3
    info = probe(path)
    assert (info.width, info.height, info.num_frames, info.container) == (700, 500, 1, "image")
    with Workers(1) as workers:
        assert read_board(workers.load_frames(path).pixels[0]) == 1234


@pytest.mark.usefixtures("with_libheif")
def test_a_photo_is_held_to_the_budget_before_it_is_decoded() -> None:
    with pytest.raises(TooLarge, match="700×500"):
        load_image(KINDS["grid"], access=Access(budget=Budget(pixels=100_000)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_damaged_photo_is_named_so(share: float) -> None:
    data = KINDS["grid"]
    with pytest.raises(MediaError):
        load_image(data[: int(len(data) * share)])
