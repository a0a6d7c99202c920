from __future__ import annotations

import json

import pytest

from kinema.errors import MissingCapability
from kinema.tasks.models import find_model
from support.capabilities import CAPABILITIES


def test_a_family_without_a_transformers_class_is_refused_by_name(shown, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deepseek_vl_v2"}))
    with pytest.raises(MissingCapability, match=r"DeepSeek-VL2 does not run on .*'hf'") as caught:
        find_model(str(tmp_path), engine="hf")
    assert "vllm" in caught.value.hint
    for capability in CAPABILITIES:
        shown("deepseek-vl2", "hf", capability, "refused")
