"""NeVA's inference YAML in our terms."""

import pytest

from kinema.errors import MissingCapability, UnknownName, UsageError
from kinema.tasks.neva_yaml import read_neva

YAML = """\
inference:
  greedy: False
  top_k: 0
  top_p: 0.9
  temperature: 0.2
  add_BOS: False
  tokens_to_generate: 256
  all_probs: False
  repetition_penalty: 1.2
  min_tokens_to_generate: 0
  compute_logprob: False
  end_strings: ["<extra_id_1>", "<extra_id_7>"]
  media_base_path: /pwd/images
  insert_media_token: null
  media_type: image
trainer:
  devices: 8
  num_nodes: 1
  accelerator: gpu
  logger: False
  precision: bf16
quantization:
  algorithm: awq
  enable: False
cluster_type: BCP
tensor_model_parallel_size: 8
pipeline_model_parallel_size: 1
pipeline_model_parallel_split_rank: 0
neva_model_file: neva.nemo
base_model_file: null
checkpoint_dir: null
hparams_file: null
prompt_file: /pwd/nemo_multimodal/test_prompts.json
output_file: /pwd/nemo_multimodal/results.json
server: False
port: 5555
quality: 9
"""


@pytest.fixture
def neva(tmp_path):
    path = tmp_path / "neva_inference.yaml"
    path.write_text(YAML)

    def read(*overrides: str):
        return read_neva(path, overrides)

    return read


def test_the_shipped_defaults_are_translated(neva):
    assert neva().settings == {
        "temperature": 0.2,
        "top_p": 0.9,
        "top_k": 0,
        "repetition_penalty": 1.2,
        "max_new_tokens": 256,
        "min_new_tokens": 0,
        "stop": ["<extra_id_1>", "<extra_id_7>"],
        "dtype": "bfloat16",
        "media_base_path": "/pwd/images",
        "media_type": "image",
        "add_bos": False,
        "model": "neva:neva.nemo",
        "prompt_file": "/pwd/nemo_multimodal/test_prompts.json",
        "output": "/pwd/nemo_multimodal/results.json",
    }


def test_dead_keys_are_named_in_one_sentence(neva):
    dead = [note for note in neva().notes if "does not use" in note]
    assert len(dead) == 1
    for key in ("quality", "port", "cluster_type", "trainer.logger"):
        assert key in dead[0]


def test_overrides_win_in_hydras_spellings(neva):
    asked = neva("inference.temperature=0.7", "+inference.batch_size=4", "++inference.seed=3")
    assert asked.settings["temperature"] == 0.7
    assert asked.settings["seed"] == 3
    assert asked.settings["batch_size"] == 4
    assert neva('inference.end_strings=["<|eot_id|>"]').settings["stop"] == ["<|eot_id|>"]


@pytest.mark.parametrize(("top_p", "meant"), [(0.4, 0.4), (0.0, 1.0), (1.0, 1.0)])
def test_nucleus_sampling_is_off_outside_its_range(top_p, meant, neva):
    assert neva(f"inference.top_p={top_p}").settings["top_p"] == meant


def test_greedy_is_temperature_zero_and_log_probabilities_are_asked_for(neva):
    assert neva("inference.greedy=True").settings["temperature"] == 0
    assert neva("inference.compute_logprob=True").settings["logprobs"] == 0
    assert neva("inference.all_probs=True").settings["all_probs"] is True


@pytest.fixture
def machine(monkeypatch):
    """Says what this machine has."""

    def has(kind: str, count: int) -> None:
        monkeypatch.setattr("kinema.engines.device.count_devices", lambda: (kind, count))

    return has


def test_slices_take_effect_where_devices_say_so_too(neva, machine):
    machine("GPUs", 8)
    words = ("tensor_model_parallel_size=4", "trainer.devices=4")
    assert neva(*words).settings["tensor_parallel"] == 4
    assert (
        neva(words[0], "trainer.devices=2", "trainer.num_nodes=2").settings["tensor_parallel"] == 4
    )
    for more, said in (
        ("trainer.devices=8", "trainer.num_nodes is 8; make it 4, or start torchrun"),
        ("quantization.enable=True", "quantised weights stay whole"),
    ):
        whole = neva(*words, more)
        assert any(said in note for note in whole.notes)
        assert "tensor_parallel" not in whole.settings
    machine("cores and no GPU", 2)
    whole = neva(*words)
    assert any("this machine has 2 cores and no GPU" in note for note in whole.notes)
    assert "tensor_parallel" not in whole.settings


def test_stages_become_layers_on_several_gpus_or_are_refused(neva, machine):
    machine("GPUs", 2)
    staged = neva("pipeline_model_parallel_size=2", "tensor_model_parallel_size=1")
    assert staged.settings["device_map"] == "auto"
    assert any("becomes --device-map auto" in note for note in staged.notes)
    with pytest.raises(MissingCapability, match="this machine has 2 GPUs") as caught:
        neva("pipeline_model_parallel_size=4", "tensor_model_parallel_size=1")
    assert "one after the other" in caught.value.hint
    with pytest.raises(MissingCapability, match="tensor_model_parallel_size is 2"):
        neva("pipeline_model_parallel_size=2", "tensor_model_parallel_size=2")


def test_tensor_parallel_takes_effect_under_torchrun(neva, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    spread = neva("tensor_model_parallel_size=4")
    assert spread.settings["tensor_parallel"] == 4
    assert not any("torchrun" in note for note in spread.notes)


def test_quantisation_is_mapped_or_refused_by_name(neva):
    asked = neva("quantization.enable=True")
    assert asked.settings["quantization"] == "torchao-int4"
    assert any("awq becomes torchao-int4" in note for note in asked.notes)
    smooth = neva("quantization.enable=True", "quantization.algorithm=int8_sq")
    assert smooth.settings["quantization"] == "torchao-int8"
    eight = neva("quantization.enable=True", "quantization.algorithm=fp8")
    assert eight.settings["quantization"] == "torchao-fp8"
    assert "quantization" not in neva("quantization.algorithm=fp8").settings
    with pytest.raises(UnknownName, match="'int8'"):
        neva("quantization.enable=True", "quantization.algorithm=int8")


def test_what_cannot_be_meant_is_refused(neva):
    with pytest.raises(UnknownName, match=r"inference\.temprature"):
        neva("inference.temprature=1")
    with pytest.raises(UsageError, match="no override"):
        neva("greedy")
    with pytest.raises(MissingCapability, match="pipeline") as caught:
        neva("pipeline_model_parallel_size=2")
    assert caught.value.exit_code == UsageError.exit_code == 2
    with pytest.raises(UnknownName, match="precision '8'"):
        neva("trainer.precision=8")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("inference.temperature=hot", "inference.temperature is 'hot'; it must be a number"),
        ("inference.temperature=[1]", r"inference.temperature is \[1\]; it must be a number"),
        ("inference.top_k=1.5", "inference.top_k is 1.5; it must be a whole number"),
        ("inference.seed=True", "inference.seed is True; it must be a whole number"),
        ("inference.greedy=maybe", "inference.greedy is 'maybe'; it must be True or False"),
        ("inference.end_strings=</s>", "inference.end_strings is '</s>'; it must be a list"),
        ("inference.end_strings=5", "inference.end_strings is 5; it must be a list of texts"),
        ("tensor_model_parallel_size=two", "tensor_model_parallel_size is 'two'"),
        ("pipeline_model_parallel_size=.inf", "pipeline_model_parallel_size is inf"),
        ("prompt_file=[a, b]", r"prompt_file is \['a', 'b'\]; it must be a text"),
        ("inference.seed=[", "holds no YAML"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_is_allowed(override, said, neva):
    with pytest.raises(UsageError, match=said):
        neva(override)


def test_numbers_that_yaml_takes_for_texts_are_numbers(neva):
    assert neva("inference.temperature=1e-3").settings["temperature"] == 0.001


def test_files_that_are_no_yaml_are_named(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        read_neva(tmp_path / "absent.yaml", [])
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="not YAML"):
        read_neva(tmp_path / "x.yaml", [])
