"""Megatron's weights to transformers' names and back, ranks merged.

Tensor parallel ranks hold slices: of the rows of embeddings, head, ``linear_qkv`` and
``linear_fc1``, of the columns of ``linear_proj`` and ``linear_fc2``; the rest is repeated.
Pipeline ranks hold consecutive layers, each counted from zero. ``linear_qkv`` interleaves
[queries of the group, key, value] for each group, ``linear_fc1`` is [gate; up].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kinema.errors import ModelError
from kinema.models.importers.weights import Weights

PROJECTOR = "embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector"
VISION = "embedding.word_embeddings.vision_encoder."
_OLD_PROJECTOR = "embedding.word_embeddings.adapter_layer.mm_linear_adapter.linear"
_PREFIX = re.compile(r"^model\.(module\.|language_model\.)?")
_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.*)")
_BY_COLUMN = ("linear_proj.weight", "linear_fc2.weight")
_BY_ROW = ("linear_qkv.weight", "linear_qkv.bias", "output_layer.weight")
_EMBEDDING = "embedding.word_embeddings.weight"


class Heads(NamedTuple):
    """Shape of the attention."""

    queries: int
    groups: int
    size: int


def merge_ranks(ranks: Mapping[tuple[int, int], Weights]) -> Weights:
    """One state dict of all ranks, names cut down to Megatron's own.

    Raises:
        ModelError: a rank is missing.
    """
    stages = sorted({stage for stage, _ in ranks})
    width = 1 + max(rank for _, rank in ranks)
    missing = [(s, r) for s in range(len(stages)) for r in range(width) if (s, r) not in ranks]
    if missing:
        stage, rank = missing[0]
        raise ModelError(
            f"The archive has {len(ranks)} ranks and lacks tensor rank {rank} of pipeline "
            f"stage {stage}.",
            hint="Download it again.",
        )
    merged: Weights = {}
    first_layer = 0
    for stage in stages:
        named = [
            {_PREFIX.sub("", name): tensor for name, tensor in ranks[stage, rank].items()}
            for rank in range(width)
        ]
        joined = {name: _join(name, [rank[name] for rank in named]) for name in named[0]}
        for name, tensor in joined.items():
            layer = _LAYER.fullmatch(name)
            number = f"decoder.layers.{first_layer + int(layer[1])}.{layer[2]}" if layer else name
            merged[number] = tensor
        found = (_LAYER.fullmatch(name) for name in joined)
        first_layer += 1 + max((int(layer[1]) for layer in found if layer), default=-1)
    return merged


def to_transformers(weights: Weights, heads: Heads) -> Weights:
    """LLaMA names and shapes (``model.layers.0.self_attn.q_proj.weight``) of Megatron's."""
    found: Weights = {}
    for name, tensor in weights.items():
        if layer := _LAYER.fullmatch(name):
            pieces = _split_layer(layer[2], tensor, heads)
            found |= {f"model.layers.{layer[1]}.{key}": piece for key, piece in pieces.items()}
        elif name in _WHOLE:
            found[_WHOLE[name]] = tensor
    return found


def to_megatron(weights: Weights, heads: Heads) -> Weights:
    """The inverse of :func:`to_transformers`."""
    whole = {new: old for old, new in _WHOLE.items()}
    found = {whole[name]: tensor for name, tensor in weights.items() if name in whole}
    count = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    for i in range(count):
        found |= _join_layer(weights, f"model.layers.{i}.", f"decoder.layers.{i}.", heads)
    return found


def split_parts(weights: Weights) -> tuple[Weights, Weights, Weights]:
    """Projector, vision tower and language model of merged weights, the first two unprefixed."""
    parts: tuple[Weights, Weights, Weights] = ({}, {}, {})
    projector, vision, language = parts
    for name, tensor in weights.items():
        if name.startswith((PROJECTOR, _OLD_PROJECTOR)):
            inner = name.removeprefix(PROJECTOR).removeprefix(_OLD_PROJECTOR)
            projector[inner.removeprefix(".")] = tensor
        elif name.startswith(VISION):
            vision[name.removeprefix(VISION).removeprefix("vision_model.")] = tensor
        else:
            language[name] = tensor
    return parts


def _join(name: str, slices: Sequence[Tensor]) -> Tensor:
    if len(slices) == 1:
        return slices[0]
    if name.endswith("linear_fc1.weight"):
        halves = [part.chunk(2) for part in slices]
        return torch.cat([gate for gate, _ in halves] + [up for _, up in halves])
    if name.endswith(_BY_ROW) or name == _EMBEDDING:
        return torch.cat(list(slices))
    if name.endswith(_BY_COLUMN):
        return torch.cat(list(slices), dim=1)
    return slices[0]


_WHOLE = {
    _EMBEDDING: "model.embed_tokens.weight",
    "decoder.final_layernorm.weight": "model.norm.weight",
    "output_layer.weight": "lm_head.weight",
}
_SAME = {
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
}


def _split_layer(name: str, tensor: Tensor, heads: Heads) -> Weights:
    if name in _SAME:
        return {_SAME[name]: tensor}
    if name == "mlp.linear_fc1.weight":
        gate, up = tensor.chunk(2)
        return {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
    if name == "self_attention.linear_qkv.weight":
        per_group = heads.queries // heads.groups
        groups = tensor.reshape(heads.groups, per_group + 2, heads.size, -1)
        pieces = torch.split(groups, [per_group, 1, 1], dim=1)
        return {
            f"self_attn.{name}_proj.weight": piece.reshape(-1, tensor.shape[1])
            for name, piece in zip("qkv", pieces, strict=True)
        }
    raise ModelError(
        f"The language model has a {name}, which LLaMA and Mistral do not.",
        hint="Archives of LLaMA and Mistral models can be imported.",
    )


def _join_layer(weights: Weights, old: str, new: str, heads: Heads) -> Weights:
    joined = {new + theirs: weights[old + ours] for theirs, ours in _SAME.items()}
    gate, up = weights[f"{old}mlp.gate_proj.weight"], weights[f"{old}mlp.up_proj.weight"]
    query, key, value = (
        weights[f"{old}self_attn.{name}_proj.weight"].reshape(
            heads.groups, -1, heads.size, gate.shape[1]
        )
        for name in "qkv"
    )
    grouped = torch.cat([query, key, value], dim=1).reshape(-1, gate.shape[1])
    return joined | {
        f"{new}mlp.linear_fc1.weight": torch.cat([gate, up]),
        f"{new}self_attention.linear_qkv.weight": grouped,
    }
