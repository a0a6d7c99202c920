"""No setting is left aside in silence, and every value is checked when it is given."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import kinema.engines
from kinema.engines import ENGINES, EngineSettings, open_engine
from kinema.engines.settings import SETTINGS, HFSettings, engines_with, narrow
from kinema.errors import MissingCapability, UnknownName, UsageError
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
        ("hf", {"gpu_memory": 0.5}, "vllm"),
        ("vllm", {"batch_size": 4}, "hf, spotter"),
        ("hf", {"max_context": 512}, "vllm, openai"),
        ("hf", {"frame_ends": "release"}, "lwm"),
        ("openai", {"dtype": "float16"}, "hf, vllm, lwm"),
    ],
)
def test_a_setting_of_another_engine_is_refused_by_name(engine, setting, able):
    (name,) = setting
    with pytest.raises(MissingCapability, match=f"'{engine}' does not do {name}") as caught:
        narrow(EngineSettings(**setting), engine)
    assert f"Engines that do: {able}." in caught.value.hint


def test_it_is_refused_before_anything_is_loaded():
    settings = EngineSettings(quantization="bnb-8bit")
    with pytest.raises(MissingCapability):
        open_engine("echo", None, family=FAMILIES["echo"], settings=settings)


@pytest.mark.parametrize("engine", SETTINGS)
def test_the_defaults_are_right_for_all(engine):
    assert narrow(EngineSettings(), engine) == SETTINGS[engine]()


def test_an_engine_gets_what_was_given_in_its_own_class():
    given = EngineSettings(dtype="float16", batch_size=2)
    assert narrow(given, "hf") == HFSettings(dtype="float16", batch_size=2)
    assert narrow(narrow(given, "hf"), "hf") == HFSettings(dtype="float16", batch_size=2)


def test_every_engine_has_a_class_and_every_field_an_engine():
    assert SETTINGS.keys() == set(ENGINES)
    assert all(engines_with(f.name) for f in fields(EngineSettings))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"concurrency": 0}, "concurrency is 0; it must be 1 or more"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0; it must be 1 or more"),
        ({"pipeline_parallel": -1}, "pipeline_parallel is -1; it must be 1 or more"),
        ({"max_context": 0}, "max_context is 0; it must be 1 or more"),
        ({"keep_conversations": -1}, "keep_conversations is -1; it must be 0 or more"),
        ({"gpu_memory": 1.5}, "gpu_memory is 1.5; it must be above 0 and at most 1"),
        ({"gpu_memory": 0.0}, "gpu_memory is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_a_value_outside_of_its_range_is_refused_when_it_is_given(given, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        EngineSettings(**given)


def test_a_value_that_a_field_does_not_allow_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="dtype 'float61'") as caught:
        EngineSettings(dtype="float61")
    assert "float16" in caught.value.hint


ELSEWHERE = {("openai", "max_context"): "tasks/caption/story.py"}
"""Where a setting of an engine is read, where that is not the engine's own code."""


def _reads(engine: str, setting: str) -> bool:
    """Whether the engine's own code looks at the setting."""
    place = Path(kinema.engines.__file__).parent
    if (engine, setting) in ELSEWHERE:
        files = [place.parent / ELSEWHERE[engine, setting]]
    else:
        files = [place / f"{engine}.py"] if (place / f"{engine}.py").is_file() else []
        files += (place / engine).glob("*.py")
    assert files
    return any(re.search(rf"(settings|engine)\.{setting}\b", f.read_text()) for f in files)


@pytest.mark.parametrize("setting", [f.name for f in fields(EngineSettings)])
def test_engines_have_the_settings_that_their_code_reads_and_no_others(setting):
    assert {e for e in ENGINES if _reads(e, setting)} == set(engines_with(setting))
