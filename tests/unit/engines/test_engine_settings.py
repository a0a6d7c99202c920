"""No setting is left aside in silence."""

from __future__ import annotations

import pytest

from kinema.engines import EngineSettings, open_engine
from kinema.engines.base import check_settings
from kinema.errors import MissingCapability
from kinema.families import FAMILIES


@pytest.mark.parametrize(
    ("engine", "setting", "able"),
    [
        ("openai", {"quantization": "bnb-4bit"}, "hf"),
        ("vllm", {"adapter": "lora"}, "hf"),
        ("vllm", {"attn": "eager"}, "hf"),
        ("hf", {"tensor_parallel": 2}, "vllm"),
        ("hf", {"base_url": "http://localhost/v1"}, "openai"),
        ("openai", {"compile": True}, "hf, vllm"),
    ],
)
def test_a_setting_of_another_engine_is_refused_by_name(engine, setting, able):
    (flag,) = (name.replace("_", "-") for name in setting)
    with pytest.raises(MissingCapability, match=f"'{engine}' does not do --{flag}") as caught:
        check_settings(EngineSettings(**setting), engine)
    assert able in caught.value.hint


def test_it_is_refused_before_anything_is_loaded():
    settings = EngineSettings(quantization="bnb-8bit")
    with pytest.raises(MissingCapability):
        open_engine("echo", None, family=FAMILIES["echo"], settings=settings)


@pytest.mark.parametrize("engine", ["hf", "vllm", "openai", "echo", "lwm"])
def test_the_defaults_are_right_for_all(engine):
    assert check_settings(EngineSettings(), engine) is None
