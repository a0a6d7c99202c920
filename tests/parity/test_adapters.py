"""Adapters give what PEFT gives by hand, or they are refused by the name of what does not fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from kinema.engines import EngineSettings
from kinema.errors import ModelError
from kinema.messages import ImagePart, SamplingParams
from kinema.tasks.chat import Chat
from support.by_hand import NEW_TOKENS, ByHand, clip
from support.tiny_families import make_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
LANGUAGE_MODEL = r".*language_model.*\.(q_proj|v_proj)"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def _trained(folder, target, *, names=LANGUAGE_MODEL, **settings):
    """An adapter with values that change every answer."""
    torch.manual_seed(0)
    base = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    chosen = LoraConfig(
        r=4, lora_alpha=64, target_modules=names, init_lora_weights=False, **settings
    )
    adapted = get_peft_model(base, chosen)
    if settings.get("modules_to_save"):
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "modules_to_save" in name:
                    weight.mul_(-2.0)
    adapted.save_pretrained(target)
    trained[target] = adapted
    return target


trained = {}
"""Each adapter's model as PEFT left it."""


def _changed(adapter, target, rename=lambda key: key, *, keep=lambda key: True, **config):
    """A copy of an adapter with other keys or settings."""
    shutil.copytree(adapter, target)
    weights = load_file(target / WEIGHTS)
    save_file({rename(key): value for key, value in weights.items() if keep(key)}, target / WEIGHTS)
    settings = json.loads((target / CONFIG).read_text()) | config
    (target / CONFIG).write_text(json.dumps(settings))
    return target


def _ask(folder, adapter=None):
    chosen = EngineSettings(device="cpu", dtype="float32", adapter=adapter and str(adapter))
    with Chat(str(folder), params=PARAMS, settings=chosen) as session:
        return session.ask("why?", ImagePart(clip(1, 1))).completion.token_ids


@pytest.fixture
def llava(llava_folder, tmp_path):
    return llava_folder, _trained(llava_folder, tmp_path / "right")


BEFORE_4_52 = {
    "qwen2.5-vl": ("base_model.model.model.language_model.", "base_model.model.model."),
    "llava": ("base_model.model.model.language_model.", "base_model.model.language_model.model."),
    "video-llava": (
        "base_model.model.model.language_model.",
        "base_model.model.language_model.model.",
    ),
    "internvl": (
        "base_model.model.model.language_model.",
        "base_model.model.language_model.model.",
    ),
    "qwen3-vl": ("base_model.model.model.language_model.", "base_model.model.model."),
}


@pytest.mark.parametrize("name", BEFORE_4_52)
def test_keys_of_transformers_before_4_52(family_folder, tmp_path, name):
    folder = family_folder(name)
    right = _trained(folder, tmp_path / "right")
    former = _changed(right, tmp_path / "former", lambda key: key.replace(*BEFORE_4_52[name]))
    assert _ask(folder, former) == _ask(folder, right) != _ask(folder)


def test_an_adapter_of_llavas_repository_and_its_projector(llava_folder, tmp_path):
    both = _trained(llava_folder, tmp_path / "both", modules_to_save=["multi_modal_projector"])

    def of_llava(key):
        key = key.replace("model.model.language_model.", "model.model.")
        key = key.replace("multi_modal_projector.linear_1", "mm_projector.0")
        return key.replace("multi_modal_projector.linear_2", "mm_projector.2")

    # As LLaVA saves it: layers by their last names, the projector in a file of its own, no class.
    theirs = _changed(
        both,
        tmp_path / "llava",
        of_llava,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=None,
        auto_mapping=None,
        task_type="CAUSAL_LM",
    )
    weights = load_file(theirs / WEIGHTS)
    projector = {key: value for key, value in weights.items() if "mm_projector" in key}
    assert len(projector) == 4
    torch.save(projector, theirs / "non_lora_trainables.bin")
    save_file({k: v for k, v in weights.items() if k not in projector}, theirs / WEIGHTS)
    found = _ask(llava_folder, theirs)
    assert found == _ask(llava_folder, both)
    (theirs / "non_lora_trainables.bin").unlink()
    assert found != _ask(llava_folder, theirs)


def test_layers_that_learned_as_a_whole_are_put_in(llava_folder, tmp_path):
    plain = _trained(llava_folder, tmp_path / "plain")
    more = _trained(llava_folder, tmp_path / "more", modules_to_save=["multi_modal_projector"])
    answers = {_ask(llava_folder, adapter) for adapter in (None, plain, more)}
    assert len(answers) == 3
    hand = ByHand(llava_folder)
    hand.model = trained[more]
    theirs = hand.complete("USER: <image>\nwhy? ASSISTANT:", images=[clip(1, 1)])
    assert list(_ask(llava_folder, more)) == theirs


@pytest.mark.parametrize("at_random", [True, False])
def test_keys_that_match_nothing(llava, tmp_path, at_random):
    folder, right = llava
    names = ("model.model.language_model.", "model.transformer.h.")
    foreign = _changed(
        right, tmp_path / "foreign", lambda key: key.replace(*names), init_lora_weights=at_random
    )
    with pytest.raises(
        ModelError, match=r"foreign does not fit .* 8 unexpected keys.*q_proj"
    ) as no:
        _ask(folder, foreign)
    assert f"trained on {folder}" in no.value.hint


def test_a_key_that_is_missing(llava, tmp_path):
    folder, right = llava
    cut = _changed(right, tmp_path / "cut", keep=lambda key: "layers.1.self_attn.v" not in key)
    with pytest.raises(ModelError, match=r"2 missing keys, such as model.*layers\.1\.self_attn\.v"):
        _ask(folder, cut)


def test_an_adapter_of_another_width(llava_folder, tmp_path):
    wide = make_checkpoint("llava", tmp_path / "wide", width=64)
    adapter = _trained(wide, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"q_proj\.lora_A\.weight is 64 wide, and the layer 32"):
        _ask(llava_folder, adapter)


def test_an_adapter_of_another_architecture(llava, family_folder):
    _, adapter = llava
    with pytest.raises(ModelError, match="trained in LlavaForConditionalGeneration, and the model"):
        _ask(family_folder("video-llava"), adapter)


def test_an_adapter_that_is_cut_short(llava):
    folder, adapter = llava
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:500])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read"):
        _ask(folder, adapter)
