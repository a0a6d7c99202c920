"""DeepSeek-VL2 on real vLLM, the one place where it runs: images, and videos as timed images.

vLLM names the vision tower itself, SigLIP So400m; here it has one layer instead of 27, which
changes no shape and no count of tokens. The language model's layout is LLaMA's.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from kinema.engines import EngineSettings
from kinema.errors import MissingCapability
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.server.backend import Backend
from kinema.tasks.models import find_model
from kinema.types import Frames
from support import served
from support.by_hand import NEW_TOKENS, clip
from support.checkpoints import make_tokenizer, spread
from support.driver import answer, generate, stream
from support.serving import scheduler_over, serving
from support.tiny_parts import llama

WIDTH, TOWER = 128, 1152
SETTINGS = EngineSettings(device="cpu", dtype="float32", max_context=4096)
PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
TILED, WHOLE = 617, 421
"""Tokens of a wide picture that is cut into tiles, and of any picture that is not."""
_TOWER = "vit_so400m_patch14_siglip_384.webli"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("deepseek-vl2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", partial(timm.create_model, depth=1))
        patch.setenv("KINEMA_HOME", str(tmp_path_factory.mktemp("cache")))
        tokenizer = make_tokenizer(
            {"image_token": "<image>"},
            extra=("<|User|>", "<|Assistant|>", *_MARKS),
            eos="<｜end▁of▁sentence｜>",
        )
        tokenizer.save_pretrained(folder)
        language = _language(tokenizer)
        _write(folder, language)
        found = find_model(str(folder))
        engine = found.open(SETTINGS)
        yield found, engine, language, tokenizer
        engine.close()


@pytest.fixture(scope="module")
def behind_a_server(model):
    """The engine openai on a server that runs the model; closes the model's engine."""
    found, engine, _, _ = model
    backend = Backend(found, scheduler_over(lambda: engine, found), name="deepseek-vl2")
    with serving(more=[backend]) as running:
        remote = find_model("deepseek-vl2", engine="openai")
        settings = EngineSettings(base_url=f"{running.url}/v1")
        with closing(remote.open(settings)) as opened:
            yield remote, opened


_MARKS = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")
_RESOLUTIONS = [[384, 384], [384, 768], [768, 384], [768, 768], [384, 1152], [1152, 384]]


def _language(tokenizer) -> LlamaForCausalLM:
    shape = llama(tokenizer, WIDTH) | {"num_key_value_heads": 4}
    language = LlamaForCausalLM(LlamaConfig(**shape))
    spread(language)
    return language.eval()


def _write(folder: Path, language: LlamaForCausalLM) -> None:
    tower = timm.create_model(
        _TOWER, pretrained=False, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True
    )
    noise = torch.Generator().manual_seed(1)
    weights = {f"vision.{name}": tensor for name, tensor in tower.state_dict().items()}
    weights |= {f"language.{name}": tensor for name, tensor in language.state_dict().items()}
    shapes = {
        "projector.layers.0.weight": (WIDTH, 4 * TOWER),
        "projector.layers.0.bias": (WIDTH,),
        "projector.layers.2.weight": (WIDTH, WIDTH),
        "projector.layers.2.bias": (WIDTH,),
        "image_newline": (WIDTH,),
        "view_seperator": (WIDTH,),
    }
    weights |= {n: torch.randn(shape, generator=noise) / 20 for n, shape in shapes.items()}
    save_file({n: t.contiguous() for n, t in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_config(language.config)))
    (folder / "processor_config.json").write_text(json.dumps(_processor()))


def _config(language: LlamaConfig) -> dict:
    deepseek = language.to_dict() | {
        **{"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"]},
        **{"first_k_dense_replace": language.num_hidden_layers, "use_mla": False},
        **{"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 64, "kv_lora_rank": None, "q_lora_rank": None},
        **{"qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0},
    }
    return {
        "model_type": "deepseek_vl_v2",
        "architectures": ["DeepseekVLV2ForCausalLM"],
        "tile_tag": "2D",
        "global_view_pos": "head",
        "candidate_resolutions": _RESOLUTIONS,
        "vision_config": {
            **{"model_type": "vision", "model_name": "siglip_so400m_patch14_384"},
            **{"image_size": 384, "patch_size": 14, "width": TOWER, "layers": 27, "heads": 16},
            "mlp_ratio": 3.7362,
        },
        "projector_config": {
            **{"model_type": "mlp_projector", "projector_type": "downsample_mlp_gelu"},
            **{"input_dim": TOWER, "n_embed": WIDTH, "depth": 2, "mlp_ratio": 1},
            "downsample_ratio": 2,
        },
        "language_config": deepseek,
    }


def _processor() -> dict:
    return {
        **{"processor_class": "DeepseekVLV2Processor", "candidate_resolutions": _RESOLUTIONS},
        **{"patch_size": 14, "downsample_ratio": 2, "sft_format": "deepseek"},
        **{"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_token": "<image>"},
        "pad_token": "<pad>",
    }


def _request(model, *parts, name="0", before=()):
    return prepare(
        decode(Conversation((*before, Message("user", parts))), model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
        request_id=name,
    )


def wide(seed: int, num_frames: int) -> Frames:
    """A clip of 640x360 pictures, which are cut into tiles beside at most one other."""
    noise = np.random.default_rng(seed)
    pixels = noise.integers(0, 256, (num_frames, 360, 640, 3), dtype=np.uint8)
    return replace(clip(seed, num_frames), pixels=pixels)


def test_words_alone_are_answered_as_by_transformers(model):
    found, engine, language, tokenizer = model
    request = _request(found, TextPart("what do you see?"))
    token_ids = answer(engine, request).token_ids
    ids = tokenizer(request.prompt.text, return_tensors="pt").input_ids
    with torch.no_grad():
        by_hand = language.generate(
            ids, do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS
        )
    assert list(token_ids) == by_hand[0, ids.shape[1] :].tolist()


def test_pictures_cost_what_vllm_counts(model, shown):
    found, engine, _, tokenizer = model
    why = TextPart("why?")
    asked = {
        "words": (why,),
        "one": (ImagePart(wide(3, 1)), why),
        "video": (VideoPart(wide(1, 3)), why),
        "mixed": (ImagePart(wide(3, 1)), VideoPart(wide(1, 3)), why),
    }
    requests = [_request(found, *parts, name=name) for name, parts in asked.items()]
    answers = {a.request_id: a for a in generate(engine, requests)}
    assert answers.keys() == asked.keys()
    for request in requests:
        plain = tokenizer(request.prompt.text).input_ids
        pictures = plain.count(tokenizer.image_token_id)
        each = TILED if pictures <= 2 else WHOLE
        counted = answers[request.id].usage.prompt_tokens
        assert counted == engine.count_tokens(request) == len(plain) + pictures * (each - 1)
    shown("deepseek-vl2", "vllm", "image")
    shown("deepseek-vl2", "vllm", "video", "as timed images")
    shown("deepseek-vl2", "vllm", "mixed", "as timed images")
    shown("deepseek-vl2", "vllm", "batched")


def test_a_follow_up_reads_the_earlier_pictures_from_the_cache(model, shown):
    found, engine, _, _ = model
    first = Message("user", (VideoPart(wide(2, 3)), TextPart("what do you see?")))
    said = (first, Message("assistant", (TextPart("a rabbit"),)))
    request = _request(found, TextPart("why?"), before=said)
    asked = answer(engine, request).usage.prompt_tokens
    assert asked == engine.count_tokens(request) > 3 * WHOLE
    shown("deepseek-vl2", "vllm", "follow-up")


def test_fewer_bits_are_refused_by_name(model, shown):
    found, _, _, _ = model
    with pytest.raises(MissingCapability, match="'vllm' does not do quantization"):
        found.open(replace(SETTINGS, quantization="bnb-4bit"))
    shown("deepseek-vl2", "vllm", "quantised", "refused")


def test_a_frame_met_in_both_sizes_is_encoded_for_each(model):
    found, engine, _, _ = model
    frames = wide(1, 3)
    few = _request(found, ImagePart(_first(frames)), TextPart("why?"), name="few")
    many = _request(found, VideoPart(frames), TextPart("why?"), name="many")
    for request in (few, many, few):
        assert len(answer(engine, request).token_ids) == NEW_TOKENS


def _first(frames: Frames) -> Frames:
    return replace(
        frames,
        pixels=frames.pixels[:1],
        seconds=frames.seconds[:1],
        indices=frames.indices[:1],
    )


def test_an_answer_comes_in_pieces(model, shown):
    found, engine, _, _ = model
    request = _request(found, ImagePart(clip(3, 1)), TextPart("why?"))
    *pieces, last = stream(engine, request)
    assert last.token_ids == answer(engine, request).token_ids
    assert "".join(pieces).strip() == last.text
    shown("deepseek-vl2", "vllm", "streamed")


# The server closes the engine at its end, so what asks it stands last.
def test_a_server_says_what_its_engine_says(model, behind_a_server, shown):
    found, engine, _, _ = model
    alone = served.answers(engine, served.requests(found.family, found.checkpoint, served.as_sent))
    remote, opened = behind_a_server
    asked = list(served.requests(remote.family, remote.checkpoint))
    assert served.answers(opened, asked) == alone
    served.show_answers(shown, "deepseek-vl2")
    served.assert_stream_says_the_same(opened, asked[0])
    shown("deepseek-vl2", "openai", "streamed")


def test_weights_of_the_server_are_not_quantised_from_here(shown):
    remote = find_model("deepseek-vl2", engine="openai")
    settings = EngineSettings(base_url="http://localhost/v1", quantization="bnb-4bit")
    with pytest.raises(MissingCapability, match="'openai' does not do quantization"):
        remote.open(settings)
    shown("deepseek-vl2", "openai", "quantised", "refused")
