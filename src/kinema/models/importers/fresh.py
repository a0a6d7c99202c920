"""A `VideoLM` that nobody trained yet: a vision tower and a language model, joined anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kinema.errors import ModelError
from kinema.models.importers.folder import Imported
from kinema.models.importers.nemo_archive import NemoArchive
from kinema.models.importers.nemo_tokenizer import (
    LLAMA_3_MEDIA_TOKENS,
    MEDIA_TOKENS,
    tokenizer_to_train,
)
from kinema.models.importers.neva import language_of, open_base
from kinema.models.importers.parts import media_token_ids, read_tokenizer, without_bars
from kinema.models.importers.towers import read_any_tower
from kinema.models.importers.weights import Weights, with_rows
from kinema.models.videolm import VideoLMConfig, VideoLMForConditionalGeneration

TOKENS = ("<vid_patch>", "<vid_start>", "<vid_end>")
"""Patch, start and end, where the tokenizer has no own ones named in ``settings``."""
_BEGUN = ("vicuna_v1_1", "video-chatgpt_v1")
"""Templates whose prompts get the tokenizer's begin mark; NeVA's write it where they want it."""


def join(
    language_model: Path | str,
    vision_tower: Path | str,
    *,
    template: str,
    fit: str = "crop",
    media_tokens: Sequence[str] = TOKENS,
    control_tokens: Sequence[str] = (),
    seed: int = 0,
    **settings: Any,
) -> Imported:
    """Put a new connector between a vision tower and a causal language model.

    Args:
        language_model: a Hugging Face folder of any causal language model, or a ``.nemo``.
        vision_tower: CLIP, SigLIP or timm: a folder, or ``efficientnet_lite0``.
        template: conversation template it is going to be trained with.
        fit: what happens to frames that are not square: crop, pad or stretch.
        media_tokens: patch, start and end; added to the tokenizer where it lacks them.
        control_tokens: those of the template, added where the tokenizer lacks them.
        seed: of the connector's random weights.
        settings: fields of :class:`VideoLMConfig`.

    Raises:
        ModelError: a part cannot be loaded, or is of another kind.
    """
    base = open_base(Path(language_model))
    source = base if isinstance(base, NemoArchive) else language_model
    tokenizer = _tokenizer(source, template, media_tokens, control_tokens)
    tower, shape = read_any_tower(vision_tower, fit=fit)
    words, text_config = _language(source)
    rows = len(tokenizer) if isinstance(base, NemoArchive) else text_config.vocab_size
    text_config.vocab_size = max(rows, len(tokenizer))  # without the rows that pad an archive's
    config = VideoLMConfig(
        vision_config=tower.config,
        text_config=text_config,
        **media_token_ids(tokenizer, media_tokens) | {"pooling": "frames"} | shape | settings,
    )
    weights = words | tower.weights | _connector(config, seed, words)
    return Imported(
        config=config,
        weights=with_rows(weights, text_config.vocab_size),
        tokenizer=tokenizer,
        video_processor=tower.video_processor,
        template=template,
        add_special_tokens=template in _BEGUN,
    )


def _tokenizer(
    base: NemoArchive | Path | str, template: str, media: Sequence[str], control: Sequence[str]
) -> Any:
    if tuple(media) in (MEDIA_TOKENS, LLAMA_3_MEDIA_TOKENS) or isinstance(base, NemoArchive):
        tokenizer = tokenizer_to_train(base, media=media, template=template)
    else:
        tokenizer = read_tokenizer(base)
    known = tokenizer.get_vocab()
    wanted = dict.fromkeys([*media, *control])
    tokenizer.add_tokens([t for t in wanted if t not in known], special_tokens=True)
    return tokenizer


def _language(name: NemoArchive | Path | str) -> tuple[Weights, Any]:
    if isinstance(name, NemoArchive):
        found, weights = language_of(name)
        return {f"language_model.{key}": tensor for key, tensor in weights.items()}, found
    try:
        config = AutoConfig.from_pretrained(name)
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name} is no causal language model that transformers can load.",
            hint="Give a Hugging Face folder with safetensors weights.",
        ) from error
    weights = {f"language_model.{key}": tensor for key, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        weights.pop("language_model.lm_head.weight", None)
    return weights, config


def _connector(config: VideoLMConfig, seed: int, words: Weights) -> Weights:
    """Random weights of everything between tower and language model, in the latter's format."""
    given = next(iter(words.values())).dtype
    text = config.text_config.to_dict() | {"vocab_size": 8}  # the language model is not kept
    if config.fusion != "cross_attention":  # there a block follows each of its layers
        text["num_hidden_layers"] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        small = VideoLMConfig(**config.to_dict() | {"text_config": text})
        state = VideoLMForConditionalGeneration(small).state_dict()
    parts = ("positions.", "projector.", "fusion.")
    return {name: t.to(given) for name, t in state.items() if name.startswith(parts)}
