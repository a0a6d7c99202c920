"""Weights in fewer bits and LoRA weights on top, as transformers and PEFT give them by hand."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from kinema.engines import EngineSettings
from kinema.errors import ModelError, UnsafeModel
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, ByHand, clip
from support.driver import answer
from support.tiny_families import HF_FAMILIES, make_checkpoint

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
PROMPT = "USER: <video>\nwhy? ASSISTANT:"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*MatMul8bitLt.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*gemm_4bit_forward.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Wide enough for 4-bit kernels, which work in blocks of 64."""
    return make_checkpoint("video-llava", tmp_path_factory.mktemp("wide"), width=128)


def _ask(folder, **settings):
    chosen = EngineSettings(device="cpu", dtype="float32", **settings)
    with Chat(str(folder), params=PARAMS, settings=chosen) as session:
        return list(session.ask("why?", VideoPart(clip(1))).completion.token_ids)


def _by_hand(folder, **arguments):
    hand = ByHand(folder)
    hand.model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, **arguments
    )
    return hand.complete(PROMPT, videos=[clip(1)])


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_four_bits_are_nf4(name, shown, tmp_path):
    folder = make_checkpoint(name, tmp_path, width=128)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    settings = EngineSettings(device="cpu", dtype="float32", quantization="bnb-4bit")
    model = find_model(str(folder), engine="hf")
    said = Conversation((Message("user", (ImagePart(clip(1, 1)), TextPart("why?"))),))
    request = prepare(said, family=model.family, checkpoint=model.checkpoint, params=PARAMS)
    completion = answer(model.open(settings), request)
    hand = ByHand(folder)
    hand.model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, quantization_config=nf4
    )
    theirs = hand.complete(request.prompt.text, images=[clip(1, 1)])
    assert list(completion.token_ids) == theirs
    shown(name, "hf", "quantised")


def test_eight_bits(folder):
    int8 = BitsAndBytesConfig(load_in_8bit=True)
    assert _ask(folder, quantization="bnb-8bit") == _by_hand(folder, quantization_config=int8)


@pytest.mark.parametrize("choice", ["torchao-int8", "torchao-int4", "torchao-fp8"])
def test_torchao_runs_on_a_cpu(folder, choice):
    pytest.importorskip("torchao")
    assert len(_ask(folder, quantization=choice)) == NEW_TOKENS


def test_four_bit_weights_are_not_saved_after_they_ran(folder, tmp_path):
    settings = EngineSettings(device="cpu", dtype="float32", quantization="bnb-4bit")
    with Chat(str(folder), params=PARAMS, settings=settings) as session:
        engine = session.model.open(settings)
        engine.model.save_pretrained(tmp_path / "before")
        assert (tmp_path / "before" / "config.json").is_file()
        engine.model(**engine.processor(text="why?", return_tensors="pt"))
        with pytest.raises(ModelError, match="repacked when the model first ran"):
            engine.model.save_pretrained(tmp_path / "after")
        engine.close()


def test_an_adapter_changes_the_answer_as_peft_does(folder, tmp_path):
    base = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    targets = r".*language_model.*\.(q_proj|v_proj)"
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=targets))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0), std=0.5)
    adapted.save_pretrained(tmp_path)
    hand = ByHand(folder)
    hand.model = adapted
    theirs = hand.complete(PROMPT, videos=[clip(1)])
    ours = _ask(folder, adapter=str(tmp_path))
    assert ours == theirs
    assert ours != _ask(folder)


def test_a_pickled_adapter_is_refused(folder, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UnsafeModel, match=r"no adapter_model\.safetensors"):
        _ask(folder, adapter=str(tmp_path))


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_attention_implementations_agree(folder, attn):
    assert _ask(folder, attn=attn) == _ask(folder)


def test_a_device_map_changes_nothing(folder):
    assert _ask(folder, device_map="cpu") == _ask(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(folder, dtype):
    chosen = EngineSettings(device="cpu", dtype=dtype)
    with Chat(str(folder), params=PARAMS, settings=chosen) as session:
        answer = session.ask("why?", VideoPart(clip(1)))
        assert len(answer.completion.token_ids) == NEW_TOKENS
        assert str(session.open().model.dtype) == f"torch.{dtype}"
