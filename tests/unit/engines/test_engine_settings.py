"""No setting is left aside in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kinema.engines
from kinema.engines import ENGINES, EngineSettings, open_engine
from kinema.engines.base import _ONLY_ON, check_settings
from kinema.errors import MissingCapability
from kinema.families import FAMILIES


@pytest.mark.parametrize(
    ("engine", "setting", "able"),
    [
        ("openai", {"quantization": "bnb-4bit"}, "hf"),
        ("vllm", {"adapter": "lora"}, "hf"),
        ("vllm", {"attn": "eager"}, "hf"),
        ("hf", {"pipeline_parallel": 2}, "vllm"),
        ("openai", {"tensor_parallel": 2}, "hf, vllm"),
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


OTHER_VALUES = {
    "quantization": "bnb-4bit",
    "adapter": "lora",
    "attn": "eager",
    "device_map": "auto",
    "cache": "features",
    "compile": True,
    "tensor_parallel": 2,
    "pipeline_parallel": 2,
    "max_context": 512,
    "base_url": "http://localhost/v1",
    "mesh": "1,1,1,1",
}


def _reads(engine: str, setting: str) -> bool:
    """Whether the engine's own code looks at the setting."""
    place = Path(kinema.engines.__file__).parent
    files = [place / f"{engine}.py"] if (place / f"{engine}.py").is_file() else []
    files += (place / engine).glob("*.py")
    assert files
    return any(re.search(rf"settings\.{setting}\b", file.read_text()) for file in files)


@pytest.mark.parametrize("setting", _ONLY_ON)
def test_engines_take_the_settings_that_their_code_reads_and_no_others(setting):
    settings = EngineSettings(**{setting: OTHER_VALUES[setting]})
    for engine in ENGINES:
        if _reads(engine, setting):
            assert check_settings(settings, engine) is None
        else:
            with pytest.raises(MissingCapability):
                check_settings(settings, engine)
