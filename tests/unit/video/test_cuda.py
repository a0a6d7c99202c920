"""A GPU decodes where its pictures are those of the CPU; elsewhere PyAV does, and that is said.

The GPU here is another decoder in its place, which gives what such devices have given: the right
pictures, a wrong crop, other colours, another size, an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.cli.app import run
from kinema.errors import DecodeFailed, MissingPackage
from kinema.tasks.site import JobSettings
from kinema.video import Workers, load_frames, pyav
from kinema.video.reading import DECODERS
from support.clips import clip_bytes, make_clip, read_boards, with_display_matrix

cuda = pytest.importorskip("kinema.video.cuda", exc_type=MissingPackage)
Change = Callable[[np.ndarray], np.ndarray]


class Device:
    """Stands for a GPU's decoder: what the CPU gives, changed."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.asked: list[list[int]] = []

    def __call__(self, media: Any, index: Any, wanted: Any, stream_index: int) -> np.ndarray:
        self.asked.append(wanted.tolist())
        return self.change(pyav.decode(media, index, wanted).pixels)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Change], Device]]:
    """Puts a device with a way of being wrong into this machine."""

    def put(change: Change) -> Device:
        made = Device(change)
        monkeypatch.setattr(cuda, "why_no_gpu", lambda: "")
        monkeypatch.setattr(cuda, "read_on_gpu", made)
        return made

    cuda.agreeing.clear()
    yield put
    cuda.agreeing.clear()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cuda") / "clip.mp4"
    make_clip(path, num_frames=40, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    return path


def nearly(pixels: np.ndarray) -> np.ndarray:
    """Another rounding of the colour conversion."""
    return np.clip(pixels.astype(int) + 1, 0, 255).astype(np.uint8)


def test_the_gpu_is_used_where_it_agrees_and_checked_once_a_kind(
    device: Callable[[Change], Device], clip: Path, tmp_path: Path
) -> None:
    gpu = device(nearly)
    frames = load_frames(clip, num_frames=4, decoder="cuda")
    ours = load_frames(clip, num_frames=4)
    assert frames.warnings == ()
    assert np.array_equal(frames.pixels, nearly(ours.pixels))
    assert frames.indices.tolist() == ours.indices.tolist() == [5, 15, 25, 35]
    # One of the wanted frames was compared, then all were decoded; the next time only that.
    assert gpu.asked == [[5], [5, 15, 25, 35]]
    load_frames(clip, at=[0.5, 0.81], decoder="cuda")
    assert gpu.asked[2:] == [[12, 20]]
    # Another size or codec is another kind.
    other = make_clip(tmp_path / "other.mp4", num_frames=20, height=128, width=192)
    load_frames(other, num_frames=2, decoder="cuda")
    assert len(gpu.asked) == 5


def test_the_frame_that_is_decoded_soonest_is_compared(
    device: Callable[[Change], Device], clip: Path
) -> None:
    gpu = device(nearly)
    load_frames(clip, at=[0.2, 0.84, 1.1], decoder="cuda")
    assert gpu.asked[0] == [21]


def cropped(pixels: np.ndarray) -> np.ndarray:
    """Eight lines too few at the bottom, and the rest stretched over them."""
    rows = np.arange(pixels.shape[1]) * (pixels.shape[1] - 8) // pixels.shape[1]
    return pixels[:, rows]


def shifted(pixels: np.ndarray) -> np.ndarray:
    return np.roll(pixels, 4, axis=2)


def garbled(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels[:, -1, :48] ^= 255
    return pixels


WRONG: dict[str, tuple[Change, str]] = {
    "cropped": (cropped, "differ from the CPU's by"),
    "shifted": (shifted, "differ from the CPU's by"),
    "other colours": (lambda p: np.clip(p.astype(int) + 9, 0, 255).astype(np.uint8), "differ"),
    "half a line of garbage": (garbled, "along the border"),
    "another size": (lambda p: p[:, :-8], "its pictures are 96×56 and the CPU's 96×64"),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG)
def test_where_the_pictures_differ_the_cpu_reads_and_says_why(
    change: Change, said: str, device: Callable[[Change], Device], clip: Path
) -> None:
    gpu = device(change)
    frames = load_frames(clip, num_frames=4, decoder="cuda")
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert np.array_equal(frames.pixels, load_frames(clip, num_frames=4).pixels)
    (warning,) = frames.warnings
    assert warning.startswith("The GPU was not used (")
    assert said in warning
    assert warning.endswith("; PyAV read the file.")
    assert len(gpu.asked) == 1
    assert not cuda.agreeing


def test_a_flat_picture_speaks_for_its_own_file_alone(
    device: Callable[[Change], Device], tmp_path: Path
) -> None:
    flat = np.full((64, 96, 3), 90, np.uint8)
    path = make_clip(tmp_path / "flat.mp4", num_frames=10, pictures=[flat] * 10)
    gpu = device(cropped)
    for _ in range(2):
        assert load_frames(path, num_frames=2, decoder="cuda").warnings == ()
    assert [len(wanted) for wanted in gpu.asked] == [1, 2, 1, 2]


def fail(problem: Exception) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        raise problem

    return change


@pytest.mark.parametrize(
    "problem", [DecodeFailed("no", hint="no"), RuntimeError("CUDA out of memory")]
)
def test_a_device_that_fails_is_named_and_replaced(
    problem: Exception, device: Callable[[Change], Device], clip: Path
) -> None:
    device(fail(problem))
    frames = load_frames(clip, num_frames=4, decoder="cuda")
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert type(problem).__name__ in frames.warnings[0]


UNREAD: dict[str, dict[str, Any]] = {
    "interlaced": {"options": {"x264-params": "tff=1", "flags": "+ildct+ilme"}},
    "front to back": {"container": "h264"},
}


@pytest.mark.parametrize("kind", UNREAD)
def test_what_torchcodec_does_not_read_is_not_given_to_the_gpu(
    kind: str, device: Callable[[Change], Device], tmp_path: Path
) -> None:
    gpu = device(nearly)
    path = make_clip(tmp_path / "a.mp4", num_frames=10, **UNREAD[kind])
    frames = load_frames(path, num_frames=4, decoder="cuda")
    assert kind in frames.warnings[0]
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert gpu.asked == []


def test_turned_video_is_read_by_the_cpu(device: Callable[[Change], Device]) -> None:
    gpu = device(nearly)
    data = with_display_matrix(clip_bytes(num_frames=5), (0, 1, -1, 0))
    frames = load_frames(data, num_frames=2, decoder="cuda")
    assert frames.pixels.shape[1:3] == (96, 64)
    assert "turned video" in frames.warnings[0]
    assert gpu.asked == []


def test_a_machine_without_a_gpu_says_so(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    frames = load_frames(clip, num_frames=4, decoder="cuda")
    assert frames.warnings == (
        "The GPU was not used (there is no CUDA device); PyAV read the file.",
    )
    assert np.array_equal(frames.pixels, load_frames(clip, num_frames=4).pixels)
    assert "cuda" in DECODERS


def test_pictures_of_the_gpu_are_scaled_as_those_of_torchcodec(
    device: Callable[[Change], Device], clip: Path
) -> None:
    device(lambda pixels: pixels)
    frames = load_frames(clip, num_frames=2, size=32, decoder="cuda")
    assert frames.pixels.shape[1:3] == (32, 48)
    assert read_boards(frames.pixels) == frames.indices.tolist()


def test_the_flag_reaches_every_reader_and_decides_what_is_kept(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run(["chat", str(clip), "What?", "-m", "echo", "--json", "--decoder", "cuda"]) == 0
    assert "The GPU was not used" in json.loads(capsys.readouterr().out)["warnings"][0]
    out, prompts = tmp_path / "out", tmp_path / "q.json"
    words = ["caption", str(clip), "-m", "echo", "-q", "-o", str(out)]
    assert run([*words, "--decoder", "cuda"]) == 0
    record = json.loads((out / "captions.jsonl").read_text())
    assert "The GPU was not used" in record["captions"][0]["warnings"][0]
    assert run(words) == 2  # other settings than the folder's
    prompts.write_text(json.dumps([{"video": str(clip), "prompt": "<video>"}]))
    words = ["answer", str(prompts), "-o", str(tmp_path / "a.json"), "-m", "echo", "-q"]
    assert run([*words, "--decoder", "cuda"]) == 0
    (record,) = json.loads((tmp_path / "a.json").read_text())
    assert "The GPU was not used" in record["frames"][0]["warnings"][0]
    assert JobSettings(decoder="torchcodec").decided == {}


def test_a_process_that_decodes_on_a_gpu_has_no_limit_of_address_space() -> None:
    with Workers(1, decoder="cuda") as workers, Workers(1) as others:
        assert workers.memory_bytes == 0 < others.memory_bytes
