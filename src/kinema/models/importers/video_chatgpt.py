"""Video-ChatGPT and its Breakfast fork: a LLaVA-Lightning folder and a ``.bin`` on top of it.

Names in those files: ``model.embed_tokens``, ``model.layers``, ``model.norm``, ``lm_head`` of
LLaMA, ``model.mm_projector``; in the fork also ``model.pes.<i>.positional_encodings`` (a table a
tower layer), ``model.reducers.<i>`` and ``model.projecters.<i>``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from kinema.errors import ModelError, ModelNotFound
from kinema.models.importers.folder import Imported
from kinema.models.importers.parts import media_token_ids, read_tokenizer, read_tower
from kinema.models.importers.pieces import stripping_token
from kinema.models.importers.weights import Weights, grow_vocabulary, read_weights
from kinema.models.videolm import VideoLMConfig

TOKENS = ("<vid_patch>", "<vid_start>", "<vid_end>")
_NUM_FRAMES = 100
_IGNORED = re.compile(r"model\.vision_tower\.|.*\.rotary_emb\.inv_freq$")
_TEXT_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "hidden_act"),
    "initializer_range",
)


def import_video_chatgpt(
    base: Path,
    *,
    projection: Path | None = None,
    delta_base: Path | None = None,
    vision_tower: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Imported:
    """Put a Video-ChatGPT together.

    Args:
        base: the LLaVA-Lightning folder, or the delta's folder with ``delta_base``.
        projection: ``mm_projector.bin``, ``video_chatgpt-7B.bin`` or the fork's ``model.bin``;
            without it the projector is LLaVA's image projector, where training starts.
        delta_base: a LLaMA folder that ``base`` holds the difference to.
        vision_tower: instead of the one that the base names.
        tokenizer: instead of the base's own.

    Raises:
        ModelError: the parts do not go together, or one cannot be read.
    """
    settings = _read_config(base)
    weights = read_weights(base)
    if delta_base is not None:
        weights = apply_delta(read_weights(delta_base), weights)
    if projection is not None:
        weights |= read_weights(projection)
    weights = {name: t for name, t in weights.items() if not _IGNORED.match(name)}
    words = read_tokenizer(tokenizer or base)
    words.add_tokens([stripping_token(token) for token in TOKENS])
    tower = read_tower(vision_tower or settings["mm_vision_tower"], fit="stretch")
    config = VideoLMConfig(
        vision_config=tower.config,
        text_config=_text_config(settings, weights, words),
        **_layout(weights, settings, tower.config.num_hidden_layers),
        **media_token_ids(words, TOKENS),
    )
    renamed = _rename(weights, rows=config.text_config.vocab_size)
    return Imported(
        config=config,
        weights=renamed | tower.weights,
        tokenizer=words,
        video_processor=tower.video_processor,
        template="video-chatgpt_v1",
        exact_frames=config.max_frames if config.pooling == "cls" else None,
    )


def apply_delta(base: Weights, delta: Weights) -> Weights:
    """Add a delta to the weights that it was made from.

    Embeddings and head of the delta have rows for new tokens; only the old rows are added to.
    What the base lacks, the projector, is the delta's own.

    Raises:
        ModelError: a tensor of the base has no counterpart or another shape.
    """
    target = dict(delta)
    for name, tensor in base.items():
        if _IGNORED.match(name):
            continue
        if name not in delta or delta[name].shape[1:] != tensor.shape[1:]:
            raise ModelError(
                f"The delta does not belong to this base: {name} is missing or differs.",
                hint="LLaVA-Lightning-7B-delta-v1-1 goes onto LLaMA-7B.",
            )
        summed = delta[name].clone()
        summed[: len(tensor)] += tensor.to(summed.dtype)
        target[name] = summed
    return target


def export_projection(weights: Weights, path: Path) -> None:
    """Write what ``--projection_path`` of Video-ChatGPT reads, or the fork's whole model.bin.

    Args:
        weights: the state dict of a VideoLM.
        path: the ``.bin`` file; a model with per-layer modules gives all of its weights.
    """
    originals = _original_names(weights)
    if not any(name.startswith("model.pes.") for name in originals):
        kept = ("model.embed_tokens.", "model.mm_projector.")
        originals = {n: t.float() for n, t in originals.items() if n.startswith(kept)}
    torch.save(originals, path)


def _read_config(base: Path) -> dict[str, Any]:
    file = base / "config.json"
    if not file.is_file():
        raise ModelNotFound(
            f"{base} holds no config.json.", hint="Give the LLaVA-Lightning folder as the base."
        )
    settings: dict[str, Any] = json.loads(file.read_text())
    if "mm_vision_tower" not in settings:
        raise ModelError(
            f"{base} is no LLaVA: its config.json names no mm_vision_tower.",
            hint="The base of Video-ChatGPT is LLaVA-7B-Lightening-v1-1.",
        )
    return settings


def _text_config(settings: dict[str, Any], weights: Weights, tokenizer: Any) -> LlamaConfig:
    known = {key: settings[key] for key in _TEXT_KEYS if key in settings}
    # The ids in config.json are wrong (bos 0, eos 1, pad -1); the tokenizer's are right.
    return LlamaConfig(
        vocab_size=max(len(tokenizer), len(weights["model.embed_tokens.weight"])),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        **known,
    )


def _layout(weights: Weights, settings: dict[str, Any], tower_layers: int) -> dict[str, Any]:
    """Upstream's 100 + S means, or the fork's class token of exactly so many frames."""
    shared = {"projector": "linear", "kinema_family": "video-chatgpt", "time": "none"}
    tables = _tables(weights)
    if not tables:
        return shared | {
            "pooling": "spatio_temporal",
            "num_temporal_tokens": _NUM_FRAMES,
            "select_layer": settings.get("mm_vision_select_layer", -2),
            "kinema_sampling": {"num_frames": _NUM_FRAMES, "formula": "segments"},
        }
    num_frames = len(tables[0])
    layers: int | list[int] = list(range(tower_layers + 1)) if len(tables) > 1 else -1
    return shared | {
        "pooling": "cls",
        "select_feature": "cls",
        "post_layernorm": True,
        "select_layer": layers,
        "time": "learned",
        "max_frames": num_frames,
        "fusion": "layer_bias" if "model.reducers.0.weight" in weights else "splice",
        "kinema_sampling": {"num_frames": num_frames, "formula": "segments"},
    }


def _tables(weights: Weights) -> list[torch.Tensor]:
    """The fork's positional tables in layer order; its later branch has a single one."""
    single = weights.get("model.pes.positional_encodings")
    if single is not None:
        return [single]
    names = [n for n in weights if re.fullmatch(r"model\.pes\.\d+\.positional_encodings", n)]
    return [weights[f"model.pes.{i}.positional_encodings"] for i in range(len(names))]


_RENAMED = {
    "model.mm_projector.": "projector.",
    "model.reducers.": "fusion.reducers.",
    "model.projecters.": "fusion.projectors.",
    "model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}


def _rename(weights: Weights, *, rows: int) -> Weights:
    renamed: Weights = {}
    for name, tensor in weights.items():
        if name.startswith("model.pes."):
            continue
        old = next(prefix for prefix in (*_RENAMED, "") if name.startswith(prefix))
        renamed[_RENAMED.get(old, old) + name.removeprefix(old)] = tensor
    renamed = grow_vocabulary(renamed, rows)
    if tables := _tables(weights):
        renamed["positions.table.weight"] = torch.cat(tables, dim=1)
    dtype = renamed["language_model.lm_head.weight"].dtype
    return {name: tensor.to(dtype) for name, tensor in renamed.items()}


def _original_names(weights: Weights) -> Weights:
    backwards = {new: old for old, new in _RENAMED.items()}
    originals: Weights = {}
    for name, tensor in weights.items():
        prefix = next((new for new in backwards if name.startswith(new)), None)
        if prefix is not None:
            originals[backwards[prefix] + name.removeprefix(prefix)] = tensor
    if (table := weights.get("positions.table.weight")) is not None:
        width = weights["projector.weight"].shape[1]
        for i, layer in enumerate(torch.split(table, width, dim=1)):
            originals[f"model.pes.{i}.positional_encodings"] = layer.clone()
    return originals
