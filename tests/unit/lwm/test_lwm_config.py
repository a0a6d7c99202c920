"""Configurations: by name, from JSON, from literals, from shapes."""

import json
import pickle
from pathlib import Path

import pytest

from kinema.errors import ModelError, UnknownName, UsageError
from kinema.models.lwm.config import (
    LONGEST,
    STANDARD,
    LWMConfig,
    as_released,
    infer_config,
    load_config,
    parse_literals,
    update_config,
)


def test_7b_has_the_released_sizes():
    config = load_config("7b")
    assert (config.hidden_size, config.num_hidden_layers, config.head_dim) == (4096, 32, 128)
    assert (config.vocab_size, config.vision_vocab_size) == (32000, 8448)
    assert (config.rms_norm_eps, config.theta) == (1e-6, 5e7)


@pytest.mark.parametrize("prefix", ["json::", ""])
def test_json_file_is_read_and_training_settings_are_left_aside(tmp_path, prefix):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"hidden_size": 128, "num_attention_heads": 2, "embd_pdrop": 0.1}))
    assert load_config(f"{prefix}{path}").head_dim == 64


@pytest.mark.parametrize(
    "text", ["dict(theta=10000000.0, scan_layers=False)", '{"theta": 1e7, "scan_layers": False}']
)
def test_update_reads_literals(text):
    config = update_config(LWMConfig(), text)
    assert (config.theta, config.scan_layers, config.hidden_size) == (1e7, False, 4096)


def test_original_settings_of_the_chat_script_are_understood():
    text = (
        "dict(sample_mode='text',theta=50000000,max_sequence_length=131072,scan_attention=False,"
        "scan_query_chunk_size=128,scan_key_chunk_size=128,scan_mlp=False,"
        "scan_mlp_chunk_size=2048,scan_layers=True)"
    )
    assert update_config(load_config("7b"), text).scan_query_chunk_size == 128


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "dict(theta=__import__('os').getpid())",
        "dict(**{'theta': 1.0})",
        "[1, 2]",
        "dict(theta=",
        "open('made', 'w')",
    ],
)
def test_update_evaluates_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no dict of plain values"):
        parse_literals(text)
    assert not list(tmp_path.iterdir())


def test_unknown_setting_gets_the_nearest_name():
    with pytest.raises(UnknownName) as caught:
        update_config(LWMConfig(), "dict(teta=1.0)")
    assert "'theta'" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["dict(hidden_size='big')", "dict(scan_layers=1)", "dict(theta=True)"]
)
def test_value_of_the_wrong_type_is_named(text):
    with pytest.raises(UsageError, match=r"must be of type"):
        update_config(LWMConfig(), text)


@pytest.mark.parametrize("source", ["pickle::missing.pkl", "8b", "json::missing.json"])
def test_configuration_that_cannot_be_read_is_named(source):
    with pytest.raises(UsageError, match=source):
        load_config(source)


def test_pickled_metadata_of_the_original_is_read_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = {"hidden_size": 128, "num_attention_heads": 2, "transformers_version": "4.40.0",
             "output_attentions": False, "scan_layers": True}  # fmt: skip
    for protocol in (0, 2, 5):
        metadata = {"step": 7, "flags": Touches(), "llama_config": saved}
        Path("metadata.pkl").write_bytes(pickle.dumps(metadata, protocol))
        assert load_config("pickle::metadata.pkl").head_dim == 64
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.pkl"]
    Path("metadata.pkl").write_bytes(pickle.dumps(Touches()))
    with pytest.raises(UsageError, match="holds no llama_config"):
        load_config("pickle::metadata.pkl")


class Touches:
    """Would make a file if the pickle were trusted."""

    def __reduce__(self):
        return (open, ("made-by-pickle", "w"))


@pytest.mark.parametrize(
    ("folder", "length", "theta"),
    [
        ("LWM-Text-128K-Jax", 131072, 1e7),
        ("models--LargeWorldModel--LWM-Text-Chat-512K-Jax/snapshots/abc", 524288, 2.5e7),
        ("elsewhere", 131072, 5e7),
    ],
)
def test_text_releases_are_known_by_name(folder, length, theta):
    text = LWMConfig(vision_vocab_size=0)
    found = as_released(text, f"params::/models/{folder}/params")
    assert (found.max_sequence_length, found.theta) == (length, theta)
    assert as_released(LWMConfig(), f"/models/{folder}/params") == LWMConfig()


def test_positions_beyond_the_exact_ones_are_refused():
    with pytest.raises(UsageError, match="positions end at 1048576"):
        LWMConfig(max_sequence_length=LONGEST + 1)


def test_json_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "config.json"
    for text in ("[1]", "{"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"config\.json"):
            load_config(str(path))


def test_sizes_that_cannot_be_are_named():
    with pytest.raises(UsageError, match="3 heads"):
        LWMConfig(hidden_size=64, num_attention_heads=3)
    with pytest.raises(UsageError, match="num_hidden_layers is 0"):
        LWMConfig(num_hidden_layers=0)


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("vision", [8448, 0])
def test_sizes_can_be_read_off_scanned_shapes(name, vision):
    config = STANDARD[name]
    e, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    shapes = {
        "transformer/wte/embedding": (32000, e),
        "transformer/h/scan_decoder/feed_forward/w1/kernel": (layers, e, f),
    }
    if vision:
        shapes |= {"transformer/vte/embedding": (vision, e), "vision_head/kernel": (e, vision)}
    found = infer_config(shapes)
    assert (found.hidden_size, found.intermediate_size, found.num_hidden_layers) == (e, f, layers)
    assert (found.num_attention_heads, found.vision_vocab_size) == (
        config.num_attention_heads,
        vision,
    )


def test_sizes_can_be_read_off_single_layers():
    shapes = {"transformer/wte/embedding": (100, 256)}
    shapes |= {f"transformer/h/{i}/feed_forward/w1/kernel": (256, 300) for i in range(3)}
    found = infer_config(shapes)
    assert (found.num_hidden_layers, found.intermediate_size, found.head_dim) == (3, 300, 128)


def test_other_checkpoints_are_refused_by_name():
    with pytest.raises(ModelError, match="transformer/wte/embedding"):
        infer_config({"encoder/Conv_0/kernel": (3, 3, 3, 128)})
