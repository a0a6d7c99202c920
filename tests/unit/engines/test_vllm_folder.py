"""The copy of a checkpoint that vLLM reads: made once, whole, and anew for other weights."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors import safe_open

from kinema.engines.vllm import folder as copies
from kinema.families import FAMILIES

FAMILY = FAMILIES["llava"]


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))


def _names(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("step", ["_rename", "shutil.copyfile"])
def test_an_interrupted_copy_is_made_again(llava_folder, monkeypatch, tmp_path, step):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{copies.__name__}.{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copies.readable_folder(llava_folder, FAMILY)
    made = copies.readable_folder(llava_folder, FAMILY)
    assert {file.name for file in made.iterdir()} == {file.name for file in llava_folder.iterdir()}
    assert any("vision_tower.vision_model." in name for name in _names(made))
    assert copies.readable_folder(llava_folder, FAMILY) == made


def test_what_an_earlier_version_left_half_written_is_made_again(llava_folder):
    made = copies.readable_folder(llava_folder, FAMILY)
    (made / "config.json").unlink()  # it was written last
    assert copies.readable_folder(llava_folder, FAMILY) == made
    assert (made / "config.json").is_file()


def test_other_settings_beside_the_same_weights_make_another_copy(llava_folder, tmp_path):
    changed = shutil.copytree(llava_folder, tmp_path / "changed")
    first = copies.readable_folder(changed, FAMILY)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"vision_feature_layer": -1}))
    second = copies.readable_folder(changed, FAMILY)
    assert second != first
    assert json.loads((second / "config.json").read_text())["vision_feature_layer"] == -1
