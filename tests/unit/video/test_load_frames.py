"""``load_frames`` gives the asked frames, upright, with their true times."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import kinema
from kinema.errors import UnknownName, UsageError
from kinema.types import Frames, FrameSampling
from kinema.video import contact_sheet, load_frames, load_image, plan
from support.clips import board, make_clip, read_board, read_boards


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames at 25 a second, a key frame every 60, with B frames."""
    path = tmp_path_factory.mktemp("clips") / "boards.mp4"
    options = {"g": "60", "bf": "3", "sc_threshold": "0"}
    make_clip(path, num_frames=200, options=options)
    return path


@pytest.mark.parametrize(
    "choice",
    [
        {"num_frames": 8},
        {"num_frames": 200},
        {"fps": 5},
        {"at": (0.0, 2.5, 7.96)},
        {"keyframes": True},
        {"single": "last"},
        {"num_frames": 8, "formula": "linspace"},
        {"num_frames": 5, "start": 3, "end": 4},
    ],
)
def test_pictures_are_the_frames_that_the_indices_name(
    clip: Path, choice: dict[str, object]
) -> None:
    frames = load_frames(clip, **choice)  # type: ignore[arg-type]
    assert read_boards(frames.pixels) == frames.indices.tolist()
    np.testing.assert_allclose(frames.seconds, frames.indices / 25, atol=1e-9)
    assert frames.total_frames == 200
    assert frames.duration_seconds == pytest.approx(8.0)
    assert frames.source_fps == pytest.approx(25.0)


def test_a_plan_names_the_frames_that_are_then_loaded(clip: Path) -> None:
    sampling = FrameSampling(fps=3, start=1, end="0:05")
    assert (
        list(plan(clip, sampling).indices) == load_frames(clip, sampling=sampling).indices.tolist()
    )


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mkv", "libx264", "yuv444p"),
        ("mp4", "libx265", "yuv420p10le"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("ts", "libx264", "yuv420p"),
        ("gif", "gif", "rgb8"),
        ("mov", "qtrle", "argb"),
    ],
)
def test_every_container_and_codec_gives_the_named_frames(
    tmp_path: Path, suffix: str, codec: str, pixel_format: str
) -> None:
    options = {"x265-params": "log-level=none:keyint=12"} if codec == "libx265" else {"g": "12"}
    path = tmp_path / f"clip.{suffix}"
    make_clip(path, num_frames=40, codec=codec, pixel_format=pixel_format, options=options)
    frames = load_frames(path, num_frames=7)
    assert len(frames) == 7
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert frames.total_frames == 40
    assert not frames.warnings


def test_frames_without_presentation_times_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "b_frames.avi"
    make_clip(path, num_frames=60, codec="mpeg4", options={"bf": "2", "g": "30"})
    frames = load_frames(path, num_frames=9)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    np.testing.assert_allclose(frames.seconds, frames.indices / 25, atol=1e-6)


def test_variable_rate_is_sampled_by_time(tmp_path: Path) -> None:
    seconds = [i / 30 for i in range(30)] + [1 + i / 2 for i in range(30)]
    make_clip(tmp_path / "vfr.mp4", seconds=seconds)
    frames = load_frames(tmp_path / "vfr.mp4", num_frames=5)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    np.testing.assert_allclose(frames.seconds, np.array(seconds)[frames.indices], atol=1e-4)
    assert frames.seconds[-1] > 12


def test_fewer_frames_than_asked_are_each_given_once(tmp_path: Path) -> None:
    make_clip(tmp_path / "short.mp4", num_frames=17)
    frames = load_frames(tmp_path / "short.mp4", num_frames=32)
    assert read_boards(frames.pixels) == list(range(17))
    assert frames.warnings == ("Asked for 32 frames, the video has 17.",)


def test_bytes_and_file_addresses_are_sources(clip: Path) -> None:
    expected = load_frames(clip, num_frames=3)
    for source in (clip.read_bytes(), str(clip), clip.as_uri()):
        np.testing.assert_array_equal(load_frames(source, num_frames=3).pixels, expected.pixels)


def test_arrays_and_frames_are_sampled_as_videos_are() -> None:
    pixels = np.stack([board(i) for i in range(10)])
    frames = load_frames(pixels, num_frames=5)
    assert read_boards(frames.pixels) == [1, 3, 5, 7, 9]
    assert "no clock" in frames.warnings[0]
    again = load_frames(frames, single="last")
    assert read_board(again.pixels[0]) == 9


def test_size_scales_the_shorter_side_or_exactly(clip: Path) -> None:
    assert load_frames(clip, num_frames=1, size=32).pixels.shape == (1, 32, 48, 3)
    assert load_frames(clip, num_frames=1, size=500).pixels.shape == (1, 64, 96, 3)
    exact = load_frames(clip, num_frames=3, size=(40, 40))
    assert exact.pixels.shape == (3, 40, 40, 3)
    assert read_boards(exact.pixels) == exact.indices.tolist()


def test_snapped_frames_are_key_frames(clip: Path) -> None:
    frames = load_frames(clip, num_frames=8, snap="keyframes")
    assert read_boards(frames.pixels) == frames.indices.tolist() == [0, 60, 120, 180]
    assert "Approximate" in frames.warnings[0]


def test_a_gif_keeps_its_times(tmp_path: Path) -> None:
    pages = [Image.fromarray(board(i)) for i in range(4)]
    pages[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=[100, 500, 100, 300]
    )
    frames = load_frames(tmp_path / "a.gif", num_frames=4)
    np.testing.assert_allclose(frames.seconds, [0, 0.1, 0.6, 0.7], atol=1e-6)
    assert read_boards(frames.pixels) == [0, 1, 2, 3]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_come_upright(tmp_path: Path, orientation: int) -> None:
    turns = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p[:, ::-1].transpose(1, 0, 2)[::1],
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: p[::-1].transpose(1, 0, 2)[::1],
    }
    stored = {6: np.rot90, 8: lambda p: np.rot90(p, -1)}.get(orientation, turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(stored(board(0b1011)))).save(path, exif=exif)
    frames = load_image(path)
    assert frames.pixels.shape == (1, 64, 96, 3)
    assert read_board(frames.pixels[0]) == 0b1011


def test_images_come_from_paths_bytes_pillow_and_arrays(tmp_path: Path) -> None:
    picture = board(77)
    Image.fromarray(picture).save(tmp_path / "p.png")
    sources = [
        tmp_path / "p.png",
        (tmp_path / "p.png").read_bytes(),
        Image.fromarray(picture),
        picture,
        load_image(picture),
    ]
    for source in sources:
        np.testing.assert_array_equal(load_image(source).pixels[0], picture)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (load_image(clear).pixels == 255).all()


def test_a_contact_sheet_holds_every_frame(clip: Path) -> None:
    sheet = contact_sheet(load_frames(clip, num_frames=5), width=96)
    tile = np.asarray(sheet)[4:68, 4:100]
    assert read_board(tile) == 20
    assert sheet.size == (3 * 100 + 4, 2 * (64 + 14 + 4) + 4)


def test_giving_a_sampling_twice_is_refused(clip: Path) -> None:
    with pytest.raises(UsageError, match="both"):
        load_frames(clip, sampling=FrameSampling(num_frames=2), fps=1)


def test_an_unknown_decoder_is_named(clip: Path) -> None:
    with pytest.raises(UnknownName, match="decoder"):
        load_frames(clip, decoder="pyaw")  # type: ignore[arg-type]


def test_load_frames_is_public() -> None:
    assert kinema.load_frames is load_frames
    assert Frames is kinema.Frames


def test_importing_the_package_imports_no_decoder() -> None:
    code = "import sys, kinema.video; print({'av', 'PIL', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_rotation_metadata_is_honoured(tmp_path: Path) -> None:
    plain = io.BytesIO()
    sideways = [np.ascontiguousarray(np.rot90(board(i))) for i in range(5)]
    make_clip(plain, num_frames=5, height=96, width=64, container="mp4", pictures=sideways)
    turned = with_display_matrix(plain.getvalue(), (0, 1, -1, 0))
    frames = load_frames(turned, num_frames=5)
    assert frames.pixels.shape == (5, 64, 96, 3)
    assert read_boards(frames.pixels) == [0, 1, 2, 3, 4]


def with_display_matrix(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """Write a, b, c, d into the only track header of an MP4."""
    header = data.index(b"tkhd") + 4
    a, b, c, d = (v << 16 for v in matrix)
    values = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    start = header + 40
    return data[:start] + values + data[start + 36 :]


def test_the_decoder_is_the_bundled_ffmpeg() -> None:
    assert "libavcodec" in av.library_versions
