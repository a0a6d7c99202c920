"""Folders of earlier versions: continued, or refused by name with what moves them on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kinema.errors import UsageError
from kinema.tasks.imports import cached_folder
from kinema.training.results import export
from kinema.training.run import _start
from kinema.training.settings import LoopSettings, TrainSettings


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A training run that was killed, as kinema 0.1.0 left it."""
    folder = tmp_path / "run"
    (folder / "checkpoint-3").mkdir(parents=True)
    (folder / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings(folder).flat()))
    (folder / "base.json").write_text('{"folder": "/models/base"}')
    return folder


def settings(run: Path, resume: str | None = None) -> TrainSettings:
    return TrainSettings(loop=LoopSettings(output_dir=run, resume_from_checkpoint=resume))


def numbered(run: Path, number: int) -> None:
    (run / "base.json").write_text(json.dumps({"folder": "/models/base", "format": number}))


def test_a_cached_folder_is_made_once_and_says_its_format(tmp_path):
    folder, made = tmp_path / "cache" / "one", []

    def make() -> None:
        made.append(1)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    assert [cached_folder(folder, make) for _ in range(2)] == [folder, folder]
    assert made == [1]
    assert json.loads((folder / "kinema_format.json").read_text()) == {"format": 1}
    (folder / "kinema_format.json").write_text('{"format": 7}')
    with pytest.raises(UsageError, match=r"format 7, this one has 1") as refused:
        cached_folder(folder, make)
    assert refused.value.hint == f"Have it made again: rm -r {folder}"
    assert made == [1]


def test_a_run_of_the_first_version_goes_on(run):
    assert _start(settings(run), run) == run / "checkpoint-3"


def test_a_run_of_another_format_is_refused_and_kept(run):
    numbered(run, 2)
    for work in (
        lambda: _start(settings(run), run),
        lambda: export(run / "checkpoint-3", run / "out", what="projector"),
    ):
        (run / "checkpoint-3" / "model.safetensors").touch()
        with pytest.raises(UsageError, match=r"run was written by another version.*format 2") as no:
            work()
        assert "resume_from_checkpoint none" in no.value.hint
    assert (run / "checkpoint-3" / "trainer_state.json").is_file()


def test_a_run_of_another_format_may_be_started_over(run):
    numbered(run, 2)
    assert _start(settings(run, "none"), run) is None
