"""Small checkpoints of Video-ChatGPT and Video NeVA, in their makers' formats."""

from __future__ import annotations

import json
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from small_parts import byte_tokenizer, make_tower

HIDDEN, WIDTH, LAYERS, TOWER_LAYERS = 64, 32, 4, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<vid_patch>", "<vid_start>", "<vid_end>")
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
}
PROJECTOR = "embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector."


def make_byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with the marks of a video."""
    marks = list(SPECIAL[3:])
    fast = byte_tokenizer(*marks)
    fast.add_special_tokens({"additional_special_tokens": marks})
    return fast


def make_clip_tower(folder: Path, side: int = 28) -> Path:
    """A CLIP vision tower with patches of 14 pixels."""
    make_tower(folder, side=side)
    return folder


def make_llava_lightning(folder: Path) -> Path:
    """The base of Video-ChatGPT: LLaMA and an image projector in two torch shards."""
    base = folder / "base"
    make_byte_tokenizer().save_pretrained(base)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=262, **TEXT))
    weights = {k: v.half() for k, v in llama.state_dict().items()}
    weights["model.mm_projector.weight"] = torch.randn(HIDDEN, WIDTH).half()
    weights["model.mm_projector.bias"] = torch.randn(HIDDEN).half()
    names = sorted(weights)
    for part, chosen in enumerate((names[::2], names[1::2]), start=1):
        shard = OrderedDict((n, weights[n]) for n in chosen)
        torch.save(shard, base / f"pytorch_model-0000{part}-of-00002.bin")
    settings = TEXT | {
        "model_type": "llava",
        "mm_vision_tower": str(make_clip_tower(folder / "clip")),
        "mm_hidden_size": WIDTH,
        "mm_vision_select_layer": -2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": -1,
    }
    (base / "config.json").write_text(json.dumps(settings))
    return base


def make_projection(folder: Path) -> Path:
    """``video_chatgpt-7B.bin``: embeddings and projector, float32."""
    path = folder / "video_chatgpt-7B.bin"
    weights = OrderedDict(
        {
            "model.embed_tokens.weight": 0.1 * torch.randn(262, HIDDEN),
            "model.mm_projector.weight": torch.randn(HIDDEN, WIDTH),
            "model.mm_projector.bias": torch.randn(HIDDEN),
        }
    )
    torch.save(weights, path)
    return path


def make_fork(folder: Path, *, num_frames: int = 10) -> Path:
    """The Breakfast fork's ``model.bin`` for the base in ``folder``: every key, float16."""
    shards = sorted((folder / "base").glob("*.bin"))
    weights = OrderedDict(
        item for shard in shards for item in torch.load(shard, weights_only=True).items()
    )
    for i in range(TOWER_LAYERS + 1):
        weights[f"model.pes.{i}.positional_encodings"] = torch.randn(num_frames, WIDTH).half()
        weights[f"model.reducers.{i}.weight"] = torch.randn(1, num_frames).half()
        weights[f"model.reducers.{i}.bias"] = torch.randn(1).half()
        weights[f"model.projecters.{i}.weight"] = torch.randn(HIDDEN, WIDTH).half()
        weights[f"model.projecters.{i}.bias"] = torch.randn(HIDDEN).half()
    torch.save(weights, folder / "model.bin")
    return folder / "model.bin"


def neva_settings(tower: Path, words: Path, **changes: Any) -> dict[str, Any]:
    """``model_config.yaml``; changes name their section as in ``mm_cfg__llm__freeze``."""
    config: dict[str, Any] = {
        "mm_cfg": {
            "llm": {"freeze": False, "model_type": "llama_2"},
            "vision_encoder": {
                "from_pretrained": str(tower),
                "from_hf": True,
                "vision_select_layer": -2,
            },
            "mm_mlp_adapter_type": "mlp2x_gelu",
            "use_im_start_end": False,
        },
        "data": {
            "media_type": "video",
            "num_frames": 8,
            "conv_template": "${model.mm_cfg.llm.model_type}",
            "image_aspect_ratio": "square",
        },
        "tokenizer": {"library": "huggingface", "type": str(words)},
        "hidden_size": HIDDEN,
        "ffn_hidden_size": TEXT["intermediate_size"],
        "num_layers": LAYERS,
        "num_attention_heads": TEXT["num_attention_heads"],
        "num_query_groups": TEXT["num_key_value_heads"],
        "encoder_seq_length": 2048,
        "layernorm_epsilon": 1e-6,
        "normalization": "rmsnorm",
        "activation": "fast-swiglu",
    }
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        target = config
        for name in filter(None, section.split("__")):
            target = target[name]
        target[key] = value
    return config


def write_nemo_folder(
    folder: Path,
    config: dict[str, Any],
    ranks: dict[str, dict[str, Any]],
    *,
    prefix: str = "model.",
    tar: bool = False,
) -> Path:
    """``ranks``: weights by folder name, the empty name being the archive's root."""
    folder.mkdir()
    (folder / "model_config.yaml").write_text(yaml.safe_dump(config))
    for name, weights in ranks.items():
        (folder / name).mkdir(exist_ok=True)
        named = {prefix + key: tensor for key, tensor in weights.items()}
        named[f"{prefix}decoder._extra_state"] = b""
        torch.save(named, folder / name / "model_weights.ckpt")
    if not tar:
        return folder
    archive = folder.with_suffix(".nemo")
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=".")
    return archive


def make_neva(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """A projector-only ``.nemo`` tar and the language model that it belongs to."""
    llm = folder / "llm"
    LlamaForCausalLM(LlamaConfig(vocab_size=262, **TEXT)).save_pretrained(llm)
    make_byte_tokenizer().save_pretrained(llm)
    projector = {
        "0.weight": torch.randn(HIDDEN, WIDTH),
        "0.bias": torch.randn(HIDDEN),
        "2.weight": torch.randn(HIDDEN, HIDDEN),
        "2.bias": torch.randn(HIDDEN),
    }
    config = neva_settings(make_clip_tower(folder / "tower"), llm, **changes)
    held = {PROJECTOR + name: tensor for name, tensor in projector.items()}
    return write_nemo_folder(folder / "neva", config, {"": held}, tar=True), llm
