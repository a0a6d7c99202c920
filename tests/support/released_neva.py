"""Archives of Video NeVA as NeMo saves them, written from the format's description.

Nothing here calls kinema: Megatron's slices are cut with loops.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import LlamaForCausalLM

from support.released_pieces import (
    count_pieces,
    make_llama,
    train_sentencepiece,
    with_pieces,
    write_llama_2,
)
from support.videolm import HIDDEN, PROJECTOR, WIDTH, make_clip_tower

_DATA = Path(__file__).parents[1] / "data"
TOKENIZER_FILE = "0123456789abcdef0123456789abcdef_tokenizer.model"
"""Artifacts of an archive are called by 32 hex digits and their own name."""


def make_projector(*, seed: int = 2) -> dict[str, Tensor]:
    """``mlp2x_gelu``, by the numbers of its layers."""
    torch.manual_seed(seed)
    return {
        "0.weight": 0.3 * torch.randn(HIDDEN, WIDTH),
        "0.bias": 0.3 * torch.randn(HIDDEN),
        "2.weight": 0.3 * torch.randn(HIDDEN, HIDDEN),
        "2.bias": 0.3 * torch.randn(HIDDEN),
    }


def neva_config(
    tower: Path, template: str, model: LlamaForCausalLM, **changes: Any
) -> dict[str, Any]:
    """``model_config.yaml``; changes name their section as in ``mm_cfg__llm__freeze``."""
    shape = model.config
    config: dict[str, Any] = {
        "target": "nemo.collections.multimodal.models.multimodal_llm.neva.neva_model"
        ".MegatronNevaModel",
        "nemo_version": "2.0.0",
        "precision": "bf16",
        "mm_cfg": {
            "llm": {"from_pretrained": None, "freeze": False, "model_type": template},
            "vision_encoder": {
                "from_pretrained": str(tower),
                "from_hf": True,
                "patch_dim": 14,
                "crop_size": [28, 28],
                "hidden_size": WIDTH,
                "vision_select_layer": -2,
                "class_token_length": 1,
                "freeze": True,
            },
            "pretrain_mm_mlp_adapter": None,
            "mm_mlp_adapter_type": "mlp2x_gelu",
            "use_im_start_end": False,
        },
        "mcore_gpt": True,
        "encoder_seq_length": 4096,
        "max_position_embeddings": 4096,
        "position_embedding_type": "rope",
        "num_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "ffn_hidden_size": shape.intermediate_size,
        "num_attention_heads": shape.num_attention_heads,
        "num_query_groups": shape.num_key_value_heads,
        "kv_channels": None,
        "normalization": "rmsnorm",
        "layernorm_epsilon": shape.rms_norm_eps,
        "activation": "fast-swiglu",
        "rotary_percentage": 1.0,
        "seq_len_interpolation_factor": None,
        "share_embeddings_and_output_weights": False,
        "make_vocab_size_divisible_by": 128,
        "tokenizer": {
            "library": "sentencepiece",
            "type": None,
            "model": f"nemo:{TOKENIZER_FILE}",
            "vocab_file": None,
            "merge_file": None,
            "delimiter": None,
            "sentencepiece_legacy": False,
            "additional_special_tokens": None,
        },
        "data": {
            "num_workers": 8,
            "is_multimodal": True,
            "media_type": "video",
            "num_frames": 8,
            "splice_single_frame": None,
            "sep_token_between_frames": False,
            "sep_image_conv_front": False,
            "conv_template": "${model.mm_cfg.llm.model_type}",
            "image_folder": None,
            "video_folder": None,
            "image_aspect_ratio": "square",
        },
    }
    for path, value in changes.items():
        section, _, key = path.rpartition("__")
        target = config
        for name in filter(None, section.split("__")):
            target = target[name]
        target[key] = value
    return config


def slice_llama(
    model: LlamaForCausalLM, *, rank: int = 0, width: int = 1, stage: int = 0, stages: int = 1
) -> dict[str, Tensor]:
    """What one of Megatron's ranks holds of a LLaMA: cut with loops, a head at a time.

    Embedding and head are padded with rows that belong to no token, up to a multiple of 128 a rank.
    """
    state, shape = model.state_dict(), model.config
    queries, groups = shape.num_attention_heads, shape.num_key_value_heads
    size = shape.head_dim

    def rows(tensor: Tensor) -> Tensor:
        return tensor[rank * len(tensor) // width : (rank + 1) * len(tensor) // width]

    def columns(tensor: Tensor) -> Tensor:
        return rows(tensor.T).T

    def padded(tensor: Tensor) -> Tensor:
        more = -len(tensor) % (128 * width)
        return rows(torch.cat([tensor, torch.full((more, tensor.shape[1]), 9.0)]))

    weights: dict[str, Tensor] = {}
    per_stage = shape.num_hidden_layers // stages
    for local in range(per_stage):
        layer, out = f"model.layers.{stage * per_stage + local}.", f"decoder.layers.{local}."
        q, k, v = (state[f"{layer}self_attn.{name}_proj.weight"] for name in "qkv")
        fused = []
        for group in range(rank * groups // width, (rank + 1) * groups // width):
            for head in range(group * queries // groups, (group + 1) * queries // groups):
                fused.append(q[head * size : (head + 1) * size])
            fused += [k[group * size : (group + 1) * size], v[group * size : (group + 1) * size]]
        gate, up = (rows(state[f"{layer}mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        weights |= {
            f"{out}self_attention.linear_qkv.weight": torch.cat(fused),
            f"{out}self_attention.linear_proj.weight": columns(
                state[f"{layer}self_attn.o_proj.weight"]
            ),
            f"{out}mlp.linear_fc1.weight": torch.cat([gate, up]),
            f"{out}mlp.linear_fc2.weight": columns(state[f"{layer}mlp.down_proj.weight"]),
            f"{out}self_attention.linear_qkv.layer_norm_weight": state[
                f"{layer}input_layernorm.weight"
            ],
            f"{out}mlp.linear_fc1.layer_norm_weight": state[
                f"{layer}post_attention_layernorm.weight"
            ],
        }
    if stage == 0:
        weights["embedding.word_embeddings.weight"] = padded(state["model.embed_tokens.weight"])
    if stage == stages - 1:
        weights["decoder.final_layernorm.weight"] = state["model.norm.weight"]
        weights["output_layer.weight"] = padded(state["lm_head.weight"])
    return {name: tensor.clone() for name, tensor in weights.items()}


def rank_folder(width: int, stages: int) -> Callable[[int, int], str]:
    """Where an archive keeps the weights of (pipeline stage, tensor rank)."""
    if stages > 1:
        return lambda stage, rank: f"tp_rank_{rank:02d}_pp_rank_{stage:03d}"
    return lambda stage, rank: f"mp_rank_{rank:02d}" if width > 1 else ""


def all_ranks(
    model: LlamaForCausalLM, projector: Mapping[str, Tensor], *, width: int = 1, stages: int = 1
) -> dict[str, dict[str, Tensor]]:
    """The weights of every rank by its folder; the projector is repeated on the first stage."""
    folder_of, ranks = rank_folder(width, stages), {}
    for stage in range(stages):
        for rank in range(width):
            held = slice_llama(model, rank=rank, width=width, stage=stage, stages=stages)
            if stage == 0:
                held |= {f"{PROJECTOR}{name}": tensor for name, tensor in projector.items()}
            ranks[folder_of(stage, rank)] = held
    return ranks


def write_nemo(
    path: Path,
    config: Mapping[str, Any],
    ranks: Mapping[str, Mapping[str, Tensor]],
    *,
    tokenizer: bytes | None,
    prefix: str = "model.",
) -> Path:
    """A ``.nemo`` tar: configuration, artifacts, and each rank's state dict."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    (folder / "model_config.yaml").write_text(yaml.safe_dump(dict(config)))
    if tokenizer is not None:
        (folder / TOKENIZER_FILE).write_bytes(tokenizer)
    for name, weights in ranks.items():
        (folder / name).mkdir(exist_ok=True)
        state: dict[str, Any] = {prefix + key: tensor for key, tensor in weights.items()}
        state[f"{prefix}decoder.layers.0.self_attention.linear_qkv._extra_state"] = io.BytesIO()
        torch.save(state, folder / name / "model_weights.ckpt")
    return pack(folder, path)


def pack(folder: Path, path: Path) -> Path:
    """The tar of an unpacked archive, its members named as NeMo names them."""
    with tarfile.open(path, "w:") as tar:
        tar.add(folder, arcname="./")
    return path


INFERENCE_YAML = (_DATA / "neva_inference.yaml").read_text(encoding="utf-8")
"""``conf/neva_inference.yaml`` as it ships."""


TRAINING_YAML = (_DATA / "video_neva_config.yaml").read_text(encoding="utf-8")
"""The keys of ``conf/video_neva_config.yaml`` and what they are shipped with."""


def write_shelf(folder: Path) -> None:
    """What a user of Video NeVA has, small: archives, a base, a tower, YAMLs, data and a video."""
    from support.clips import EXAMPLE

    pieces = train_sentencepiece()
    own = with_pieces(pieces)
    torch.manual_seed(0)
    tower = make_clip_tower(folder / "clip-vit-large-patch14")
    llama, projector = make_llama(count_pieces(own)), make_projector()
    write_llama_2(folder / "llama-2-7b-chat", pieces)
    config = neva_config(tower, "llama_2", llama)
    write_nemo(folder / "video_neva.nemo", config, all_ranks(llama, projector), tokenizer=own)
    held = {f"{PROJECTOR}{name}": tensor for name, tensor in projector.items()}
    write_nemo(folder / "projector.nemo", config, {"": held}, tokenizer=None)
    (folder / "conf").mkdir()
    (folder / "conf" / "neva_inference.yaml").write_text(INFERENCE_YAML)
    (folder / "conf" / "video_neva_config.yaml").write_text(TRAINING_YAML)
    (folder / "videos").mkdir()
    shutil.copy(EXAMPLE, folder / "videos" / "video_test.mp4")
    asked = {"video": "video_test.mp4", "text": "Can you describe the scene?"}
    asked |= {"category": "conv", "question_id": 0}
    (folder / "prompts.jsonl").write_text(json.dumps(asked) + "\n")
    turns = [
        {"from": "human", "value": "<video>\nCan you describe the scene?"},
        {"from": "gpt", "value": "Four things are shown."},
    ]
    sample = {"id": 0, "video": "video_test.mp4", "conversations": turns}
    (folder / "train.json").write_text(json.dumps([sample]))
