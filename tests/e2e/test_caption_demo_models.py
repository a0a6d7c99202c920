"""The captioning demo's model ids: each finds its checkpoint in the hub's cache and captions."""

import json

import pytest

from kinema.captioning.result import DEMO_MODELS
from kinema.cli.app import run
from kinema.tasks.models import find_model
from support.clips import make_clip

FAMILY = {
    "Deepseek_Janus": "janus",
    "Deepseek_Janus_1b": "janus",
    "Deepseek_Janus_7b": "janus",
    "Qwen2_VL": "qwen2-vl",
    "Qwen2.5_VL": "qwen2.5-vl",
    "Qwen2_5_VL_3b": "qwen2.5-vl",
    "Qwen2_5_VL_7b": "qwen2.5-vl",
    "LLaVA_One_Vision": "llava-onevision",
    "LLaVA_Next_Video": "llava-next-video",
}

FLAGS = (
    *("--backend", "hugging_face", "--device", "cpu", "--dtype", "float32"),
    *("--max-new-tokens", "8", "--fps", "1", "--batch-size", "4"),
    *("--style", "brief", "--language", "German"),
)


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", num_frames=50, fps=10)  # 5 s


@pytest.fixture
def in_the_hub(tmp_path, monkeypatch):
    """Puts a checkpoint folder where the hub's library keeps the model of that name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name, folder):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (home / "snapshots").mkdir(parents=True)
        (home / "snapshots" / "1234").symlink_to(folder)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("1234")

    return put


@pytest.mark.parametrize("name", FAMILY)
def test_each_id_captions_with_its_own_family(name, clip, in_the_hub, family_folder, tmp_path):
    in_the_hub(DEMO_MODELS[name], family_folder(FAMILY[name]))
    path = tmp_path / "result.json"
    words = [str(clip), "-m", name, "--result-path", str(path), *FLAGS]
    assert run(["caption", *words]) == 0
    result = json.loads(path.read_text())
    assert [batch["frames"] for batch in result["batches"]] == [4, 1]
    assert all(batch["description"] for batch in result["batches"])
    assert find_model(DEMO_MODELS[name], engine="hf").family.name == FAMILY[name]


def test_the_one_that_only_vllm_has_says_so(clip, in_the_hub, tmp_path, capsys):
    folder = tmp_path / "vl2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "deepseek_vl_v2"}))
    in_the_hub(DEMO_MODELS["Deepseek_VL2"], folder)
    assert run(["caption", str(clip), "-m", "Deepseek_VL2", "--backend", "hugging_face"]) == 2
    assert "vllm" in capsys.readouterr().err


def test_every_id_of_the_demo_is_tried():
    assert FAMILY.keys() | {"Deepseek_VL2"} == DEMO_MODELS.keys()
