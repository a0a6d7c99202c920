"""VideoLM folders through the engine: batches, follow-ups and kept features change no answer."""

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig

from kinema import prompt as prompts
from kinema.engines import EngineSettings
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.models.videolm import VideoLMConfig, VideoLMForConditionalGeneration
from kinema.tasks.models import find_model
from kinema.types import Frames
from support.driver import answer, generate

CLS = {"pooling": "cls", "select_feature": "cls", "max_frames": 5, "select_layer": [0, 1, 2]}
PARAMS = SamplingParams(max_new_tokens=6, min_new_tokens=6)


@pytest.fixture(
    params=[{}, {"fusion": "cross_attention"}, CLS | {"fusion": "layer_bias", "time": "learned"}],
    ids=["splice", "cross_attention", "layer_bias"],
)
def model(request, build_model, build_processor, tmp_path):
    built = build_model(**request.param)
    for block in getattr(built.fusion, "blocks", ()):
        torch.nn.init.ones_(block.gate)
    built.generation_config.eos_token_id = 2
    built.save_pretrained(tmp_path / "model")
    build_processor(built.config).save_pretrained(tmp_path / "model")
    return find_model(str(tmp_path / "model"))


def ask(model, *turns, frames: Frames, request_id="0"):
    roles = ("user", "assistant")
    said = Conversation(
        tuple(
            Message(roles[i % 2], (*((VideoPart(frames),) if i == 0 else ()), TextPart(words)))
            for i, words in enumerate(turns)
        )
    )
    decoded = prompts.decode(said, model.family)
    return prompts.prepare(
        decoded,
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
        request_id=request_id,
    )


def test_a_batch_answers_like_its_requests_alone(model, frames):
    questions = ["one?", "a longer second question?", "three"]
    requests = [
        ask(model, words, frames=frames, request_id=str(i)) for i, words in enumerate(questions)
    ]
    engine = model.open(EngineSettings(batch_size=3))
    together = {c.request_id: c.token_ids for c in generate(engine, requests)}
    alone = {r.id: answer(engine, r).token_ids for r in requests}
    assert together == alone


def test_times_of_the_frames_reach_the_prompt(build_model, build_processor, frames, tmp_path):
    built = build_model(time="timestamps")
    built.save_pretrained(tmp_path)
    build_processor(built.config).save_pretrained(tmp_path)
    model = find_model(str(tmp_path))
    engine = model.open(EngineSettings())
    inputs = engine._prepare(ask(model, "when?", frames=frames))
    text = engine.processor.tokenizer.decode(inputs.ids)
    assert [f"{at:.1f}s: <vid_start>" in text for at in frames.seconds] == [True] * len(frames)


@pytest.mark.filterwarnings("ignore:.*MatMul8bitLt.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*gemm_4bit_forward.*:UserWarning")
@pytest.mark.parametrize("choice", ["bnb-4bit", "bnb-8bit"])
def test_bitsandbytes_quantises_the_layers_and_answers_nearly_the_same(
    build_processor, frames, tmp_path, choice
):
    # Wide enough for 4-bit kernels, which work in blocks of 64.
    size = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2}
    config = VideoLMConfig(
        vision_config=CLIPVisionConfig(**size, num_attention_heads=4, image_size=42, patch_size=14),
        text_config=LlamaConfig(**size, vocab_size=300, num_attention_heads=4),
        media_token_id=3,
        media_start_token_id=4,
        media_end_token_id=5,
    )
    built = VideoLMForConditionalGeneration(config).eval()
    built.save_pretrained(tmp_path)
    build_processor(built.config).save_pretrained(tmp_path)
    model = find_model(str(tmp_path))
    engine = model.open(EngineSettings(device="cpu", dtype="float32", quantization=choice))
    layer = engine.model.language_model.model.layers[0].self_attn.q_proj
    assert type(layer).__module__.startswith("bitsandbytes")
    inputs = engine._prepare(ask(model, "what?", frames=frames)).tensors
    with torch.no_grad():
        outputs = [model(**inputs).logits.flatten() for model in (engine.model, built)]
    assert torch.nn.functional.cosine_similarity(*outputs, dim=0) > 0.95
    completion = answer(engine, ask(model, "what?", frames=frames))
    assert completion.usage.completion_tokens == PARAMS.max_new_tokens


def test_a_follow_up_from_the_kept_cache_equals_reading_everything_again(model, frames):
    keeping = model.open(EngineSettings())
    first = answer(keeping, ask(model, "one?", frames=frames))
    request = ask(model, "one?", first.text, "and two?", frames=frames)
    followed = answer(keeping, request)
    fresh = answer(model.open(EngineSettings(keep_conversations=0)), request)
    assert followed.token_ids == fresh.token_ids


def test_features_kept_on_disk_give_the_same_answer(model, frames, tmp_path):
    settings = EngineSettings(cache=str(tmp_path / "features"))
    request = ask(model, "one?", frames=frames)
    answers = [answer(model.open(s), request) for s in (EngineSettings(), settings)]
    kept = list((tmp_path / "features").glob("*.safetensors"))
    assert len(kept) == 1
    answers.append(answer(model.open(settings), request))
    assert len({answer.token_ids for answer in answers}) == 1
    assert list((tmp_path / "features").glob("*.safetensors")) == kept
