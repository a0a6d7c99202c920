"""What decides an answer: every way of loading but those that are named as not deciding."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.tasks.deciding import deciding, model_identity
from kinema.tasks.models import find_model


@dataclass(frozen=True, kw_only=True)
class LaterSettings(EngineSettings):
    rope_scaling: float = 1.0


def test_a_new_setting_counts_until_it_is_named():
    one, other = LaterSettings(), LaterSettings(rope_scaling=2.0)
    assert deciding(other)["rope_scaling"] == 2.0
    assert fingerprint(deciding(one)) != fingerprint(deciding(other))


def test_what_decides_nothing_says_why():
    marked = {f.name: f.metadata["reason"] for f in fields(EngineSettings) if f.metadata}
    assert marked.keys() == {
        *("device", "device_map", "cache", "batch_size", "keep_conversations", "tensor_parallel"),
        *("pipeline_parallel", "gpu_memory", "api_key_env", "concurrency", "verify", "mesh"),
    }
    assert all(marked.values())
    assert deciding(EngineSettings()).keys() == (
        {f.name for f in fields(EngineSettings)} - marked.keys()
    )


def test_devices_and_batches_decide_nothing():
    plain = deciding(EngineSettings())
    assert plain == deciding(
        EngineSettings(device="cpu", batch_size=1, gpu_memory=0.5, cache="c", concurrency=2)
    )
    for name, value in (("dtype", "float16"), ("quantization", "bnb-4bit"), ("adapter", "a")):
        assert deciding(EngineSettings(**{name: value})) == plain | {name: value}


def test_a_models_identity_names_its_engine_and_its_way_of_loading():
    identity = model_identity(find_model("echo"), EngineSettings(attn="eager"))
    assert identity["family"] == identity["engine"] == "echo"
    assert identity["attn"] == "eager"
    assert json.loads(json.dumps(identity)) == identity


def test_an_adapter_that_is_trained_again_is_another_one(tmp_path):
    weights = tmp_path / "adapter_model.safetensors"
    settings = EngineSettings(adapter=str(tmp_path))
    weights.write_bytes(b"one")
    first = model_identity(find_model("echo"), settings)
    weights.write_bytes(b"two")
    assert model_identity(find_model("echo"), settings) != first


def test_a_server_is_told_by_address_and_model_without_its_credentials(monkeypatch):
    model = find_model("m", engine="openai")
    named = EngineSettings(base_url="http://user:secret@host:8000/v1/?token=secret")
    identity = model_identity(model, named)
    assert (identity["served_model"], identity["base_url"]) == ("m", "http://host:8000/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host:8000/v1")
    assert model_identity(model, EngineSettings()) == identity
    assert model_identity(model, EngineSettings(served_model="other")) != identity
