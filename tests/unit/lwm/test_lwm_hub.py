"""A released checkpoint by its hub name: its files are no Hugging Face layout."""

import subprocess
import sys

import pytest

from kinema.errors import ModelNotFound
from kinema.tasks.models import find_model

HUB = "models--LargeWorldModel--LWM-Chat-1M-Jax"
ASK = """
from kinema.tasks.models import find_model
model = find_model("lwm:LargeWorldModel/LWM-Chat-1M-Jax")
print(model.family.name, model.engine, sorted(p.name for p in model.checkpoint.folder.iterdir()))
"""


def test_hub_name_finds_params_vqgan_and_tokenizer(tmp_path):
    snapshot = tmp_path / HUB / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    for name in ("params", "vqgan", "tokenizer.model"):
        (snapshot / name).write_bytes(b"weights")
    (tmp_path / HUB / "refs").mkdir()
    (tmp_path / HUB / "refs" / "main").write_text("1234")
    # The library reads its settings when it is imported, so this takes a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=False,
        env={"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""},
    )  # fmt: skip
    assert done.stdout.strip() == "lwm lwm ['params', 'tokenizer.model', 'vqgan']", done.stderr


def test_missing_folder_is_not_looked_up():
    with pytest.raises(ModelNotFound, match="missing"):
        find_model("lwm:/missing/folder/of/weights")
