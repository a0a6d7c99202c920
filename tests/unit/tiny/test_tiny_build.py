import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from kinema.errors import MissingPackage
from kinema.models.tiny import build as building
from support.clips import EXAMPLE


def test_a_second_build_does_no_work(tiny):
    said: list[str] = []
    assert building.build(say=said.append) == Path(tiny.model.config.name_or_path)
    assert said == []


def test_of_two_builders_one_builds_and_the_other_waits(tmp_path, monkeypatch):
    made = []

    def convert(vision, language, folder):
        made.append(folder)
        time.sleep(0.2)
        (folder / "config.json").write_text("{}")

    monkeypatch.setenv("KINEMA_HOME", str(tmp_path))
    monkeypatch.setattr(building, "convert", convert)
    with ThreadPoolExecutor(2) as pool:
        folders = {one.result() for one in [pool.submit(building.build) for _ in range(2)]}
    (folder,) = folders
    assert (folder / "config.json").is_file()
    assert len(made) == 1


def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch):
    empty = tmp_path / "weights.gguf"
    empty.write_bytes(b"GGUF")
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "_source", lambda package, file: empty)
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever the reader raises
        building.build()
    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


def test_a_missing_package_names_the_command_that_brings_it():
    with pytest.raises(MissingPackage) as caught:
        building._source("no_such_weights", "file")
    assert "kinema[tiny]" in caught.value.hint


def test_the_script_draws_the_shipped_clip(tmp_path):
    script = EXAMPLE.parents[1] / "scripts" / "make_example_clip.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "clip.mp4")], check=True)
    ours, shipped = (_decode(path)[::24] for path in (tmp_path / "clip.mp4", EXAMPLE))
    assert np.abs(ours.astype(int) - shipped).mean() < 2
    assert EXAMPLE.stat().st_size < 1_000_000


def _decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
