"""Pickles of Video-ChatGPT come in and go out without anything in them being run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.errors import KinemaError, NotMedia, UnsafeModel, UsageError
from kinema.models.videolm.features import load_features
from kinema.models.videolm.pickles import read_pickle
from kinema.tasks.features.pickles import convert_folder

TOWER = "clip_vision_model 1024 16x16"


def rows(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape).astype(np.float16)


def save(path: Path, value: Any, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    values = rows(356, 1024)

    assert np.array_equal(read_pickle(save(tmp_path / "v.pkl", values, protocol)), values)


def test_names_of_older_numpy_are_read(tmp_path: Path) -> None:
    values = rows(4, 8)
    old = pickle.dumps(values, 2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "v.pkl").write_bytes(old)

    assert read_pickle(tmp_path / "v.pkl").shape == (4, 8)


@pytest.mark.parametrize(
    ("shape", "kind", "num_frames", "layers"),
    [
        ((356, 1024), "spatio_temporal", 60, 1),
        ((1000, 25, 1024), "cls", 1000, 25),
        ((1000, 1024), "cls", 1000, 1),
    ],
)
def test_pickles_become_features_and_come_back(
    tmp_path: Path, shape: Any, kind: str, num_frames: int, layers: int
) -> None:
    values = rows(*shape)
    if kind == "spatio_temporal":
        values[60:100] = 0  # a video of sixty frames
    save(tmp_path / "in/P03/v_a.b.pkl", values)

    assert convert_folder(tmp_path / "in", tmp_path / "mid", kind=None, tower=TOWER) == 1
    assert convert_folder(tmp_path / "mid", tmp_path / "out", kind=None, tower=TOWER, name="v") == 1

    features, header = load_features(tmp_path / "mid/P03/v_a.b.safetensors")
    assert features.shape == (shape[0], layers, 1024)
    assert (header.pooling, header.num_frames, header.tower) == (kind, num_frames, TOWER)
    assert np.array_equal(pickle.loads((tmp_path / "out/v.pkl").read_bytes()), values)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}, lambda x: (rows(2, 2), x)])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, wrap: Any
) -> None:
    path = save(tmp_path / "evil.pkl", wrap(Hostile(tmp_path / "ran")))

    with pytest.raises(UnsafeModel, match=r"posix\.system|no array"):
        read_pickle(path)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [{"a": 1}, [1.0], "text", np.array([object()]), np.arange(4), rows(4), rows(1, 2, 3, 4)],
)
def test_anything_but_an_array_of_numbers_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(KinemaError):
        read_pickle(save(tmp_path / "v.pkl", value))


def test_a_pickle_that_was_cut_off_is_no_medium(tmp_path: Path) -> None:
    path = save(tmp_path / "v.pkl", rows(10, 10))
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(NotMedia):
            read_pickle(path)


def test_what_a_shape_leaves_open_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "in/v.pkl", rows(512, 1024))

    with pytest.raises(UsageError, match="512 rows") as raised:
        convert_folder(tmp_path / "in", tmp_path / "out", kind=None, tower=TOWER)

    assert "kind" in raised.value.hint
    assert convert_folder(tmp_path / "in", tmp_path / "out", kind="patches", tower=TOWER) == 1
    with pytest.raises(UsageError, match="neither"):
        convert_folder(tmp_path / "none", tmp_path / "out", kind=None, tower=TOWER)
