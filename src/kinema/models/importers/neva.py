"""Video NeVA: ``.nemo`` archives to a VideoLM and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, LlamaConfig

from kinema.errors import ModelError
from kinema.models.importers.folder import Imported
from kinema.models.importers.nemo_archive import CONFIG, NemoArchive, read_nemo, write_nemo
from kinema.models.importers.nemo_tokenizer import media_tokens, neva_tokenizer
from kinema.models.importers.nemo_weights import (
    PROJECTOR,
    Heads,
    merge_ranks,
    split_parts,
    to_megatron,
    to_transformers,
)
from kinema.models.importers.parts import media_token_ids, read_tower
from kinema.models.importers.weights import Weights, read_weights, with_rows
from kinema.models.videolm import VideoLMConfig

_FITS = {"square": "crop", "pad": "pad"}
_LLAMA_3_1 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Of Meta's release; NeMo's configuration says that it is on, and no number."""
_SINGLE = ("first", "middle", "last")


def import_neva(
    archive: Path,
    *,
    base_model: Path | None = None,
    vision_tower: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Imported:
    """Make a VideoLM of an archive.

    Args:
        archive: the ``.nemo``, with all weights or the projector alone.
        base_model: the language model of a projector-only archive: a Hugging Face folder or
            another ``.nemo``.
        vision_tower: instead of the one that the archive names.
        tokenizer: instead of the one that the archive or the base model names.

    Raises:
        ModelError: the archive is of another kind, or parts are missing.
    """
    nemo = read_nemo(archive)
    base = open_base(base_model) if base_model is not None else None
    multimodal = _section(nemo.config, "mm_cfg")
    projector, vision, language = split_parts(merge_ranks(nemo.ranks))
    tower = read_tower(
        vision_tower or multimodal["vision_encoder"]["from_pretrained"], fit=_fit(nemo.config)
    )
    text_config, words = _language(nemo, language, base)
    template = _template(nemo.config)
    media = media_tokens(_section(multimodal, "llm").get("model_type"))
    tokens = neva_tokenizer(nemo, base, given=tokenizer, media=media, template=template)
    text_config.vocab_size = len(tokens)
    config = VideoLMConfig(
        vision_config=tower.config,
        text_config=text_config,
        **_layout(nemo.config),
        **media_token_ids(tokens, media),
    )
    # Rows behind the tokenizer's are Megatron's padding, and it never samples their tokens.
    words = with_rows(words, text_config.vocab_size)
    own_vision = {f"vision_tower.{name}": tensor for name, tensor in vision.items()}
    weights = {f"language_model.{name}": tensor for name, tensor in words.items()}
    weights |= {f"projector.{name}": tensor for name, tensor in projector.items()}
    weights |= tower.weights | own_vision
    return Imported(
        config=config,
        weights=weights,  # each part as it is: a projector may be finer than its language model
        tokenizer=tokens,
        video_processor=tower.video_processor,
        template=template,
        add_special_tokens=False,
    )


def export_neva(
    weights: Weights, config: VideoLMConfig, path: Path, *, template: str, projector_only: bool
) -> None:
    """Write a ``.nemo`` that holds a VideoLM's projector, or its language model as well.

    Args:
        weights: the state dict of the VideoLM.
        config: its configuration.
        path: the archive.
        template: conversation template, ``data.conv_template``.
        projector_only: leave the language model out, as a run with a frozen one does.
    """
    prefix = f"model.{PROJECTOR}."
    kept = {
        prefix + name.removeprefix("projector."): tensor
        for name, tensor in weights.items()
        if name.startswith("projector.")
    }
    if not projector_only:
        language = {
            name.removeprefix("language_model."): tensor
            for name, tensor in weights.items()
            if name.startswith("language_model.")
        }
        megatron = to_megatron(language, _heads(config.text_config))
        kept |= {f"model.{name}": tensor for name, tensor in megatron.items()}
    write_nemo(path, _nemo_config(config, template, projector_only), kept)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    if not isinstance(section, Mapping):
        raise ModelError(
            f"The archive's model_config.yaml has no {name} section.",
            hint="Archives of NeVA and Video NeVA have one.",
        )
    return section


def _fit(config: Mapping[str, Any]) -> str:
    ratio = _section(config, "data").get("image_aspect_ratio", "square")
    if ratio not in _FITS:
        raise ModelError(
            f"image_aspect_ratio is {ratio}, which no video could be trained with.",
            hint=f"{' and '.join(_FITS)} can be imported.",
        )
    return _FITS[ratio]


def _template(config: Mapping[str, Any]) -> str:
    llm = _section(_section(config, "mm_cfg"), "llm")
    name = str(_section(config, "data").get("conv_template") or "")
    # The YAML default is an interpolation that points at the language model's kind.
    return str(llm.get("model_type", "nvgpt")) if not name or name.startswith("${") else name


def _layout(config: Mapping[str, Any]) -> dict[str, Any]:
    multimodal, data = _section(config, "mm_cfg"), _section(config, "data")
    vision = _section(multimodal, "vision_encoder")
    if multimodal.get("use_lita"):
        raise ModelError(
            "The archive is a LITA model, with time tokens.", hint="Plain Video NeVA is imported."
        )
    feature = str(vision.get("vision_select_feature", "patch"))
    if feature == "cls_patch" and "siglip" in str(vision.get("from_pretrained", "")).lower():
        feature = "patch"  # all patches of a tower that has no class token
    count = int(data.get("num_frames", 1))
    if (single := data.get("splice_single_frame")) in _SINGLE:
        sampling: dict[str, Any] = {"single": single}
    elif count < 1:
        sampling = {}  # every frame: as many as the family takes otherwise
    else:
        sampling = {"num_frames": count, "formula": "linspace"}
    return {
        "select_layer": vision.get("vision_select_layer", -2),
        "select_feature": feature,
        "pooling": "frames",
        "projector": multimodal.get("mm_mlp_adapter_type", "linear"),
        "fusion": "splice",
        "media_wrap": "outside" if multimodal.get("use_im_start_end") else "inside",
        "kinema_family": "neva",
        "kinema_sampling": sampling,
    }


def open_base(model: Path) -> NemoArchive | Path:
    """A language model below a projector: another archive, read, or a Hugging Face folder."""
    return read_nemo(model) if model.is_file() or (model / CONFIG).is_file() else model


def language_of(archive: NemoArchive) -> tuple[LlamaConfig, Weights]:
    """Configuration and weights of an archive's language model, in transformers' terms."""
    config = _text_config(archive.config)
    return config, to_transformers(split_parts(merge_ranks(archive.ranks))[2], _heads(config))


def _language(
    nemo: NemoArchive, language: Weights, base: NemoArchive | Path | None
) -> tuple[Any, Weights]:
    """Configuration and weights of the language model, in transformers' terms."""
    if "decoder.final_layernorm.weight" in language:
        config = _text_config(nemo.config)
        return config, to_transformers(language, _heads(config))
    if base is None:
        raise ModelError(
            "The archive holds a projector and no language model.",
            hint="Give the model it was trained on with --base-model.",
        )
    if isinstance(base, Path):
        return AutoConfig.from_pretrained(base), read_weights(base)
    return language_of(base)


def _text_config(config: Mapping[str, Any]) -> LlamaConfig:
    wanted = {"normalization": "rmsnorm", "activation": "fast-swiglu"}
    for key, value in wanted.items():
        if config.get(key, value) not in (value, "swiglu"):
            raise ModelError(
                f"The language model has {key} {config[key]}; LLaMA and Mistral have {value}.",
                hint="Archives of LLaMA and Mistral models can be imported.",
            )
    return LlamaConfig(
        hidden_size=config["hidden_size"],
        intermediate_size=config["ffn_hidden_size"],
        num_hidden_layers=config["num_layers"],
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config.get("num_query_groups") or config["num_attention_heads"],
        max_position_embeddings=config.get("encoder_seq_length", 4096),
        head_dim=config.get("kv_channels"),
        rms_norm_eps=config.get("layernorm_epsilon", 1e-5),
        rope_parameters=_rotary(config),
        tie_word_embeddings=bool(config.get("share_embeddings_and_output_weights", False)),
    )


def _rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    """How positions turn queries and keys, scaled where the archive is of a long context.

    ``seq_len_interpolation_factor`` divides positions (Megatron's RotaryEmbedding), and
    ``scale_positional_embedding`` stretches low frequencies as Llama 3.1 does, with its numbers.
    """
    kind, share = config.get("position_embedding_type", "rope"), config.get("rotary_percentage")
    if kind != "rope" or share not in (None, 1, 1.0):
        raise ModelError(
            f"Positions are of kind {kind} with rotary_percentage {share}; LLaMA and Mistral turn "
            "whole heads.",
            hint="Archives of LLaMA and Mistral models can be imported.",
        )
    turning: dict[str, Any] = {"rope_theta": float(config.get("rotary_base") or 10000.0)}
    if config.get("scale_positional_embedding"):
        return turning | _LLAMA_3_1
    if factor := config.get("seq_len_interpolation_factor"):
        return turning | {"rope_type": "linear", "factor": float(factor)}
    return turning | {"rope_type": "default"}


def _heads(config: Any) -> Heads:
    queries = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    return Heads(queries, config.num_key_value_heads or queries, size)


def _nemo_config(config: VideoLMConfig, template: str, projector_only: bool) -> dict[str, Any]:
    text, sampling = config.text_config, config.kinema_sampling
    turning = text.rope_parameters
    return {
        "mm_cfg": {
            "llm": {"freeze": projector_only, "model_type": template},
            "vision_encoder": {
                "from_pretrained": config.vision_config.name_or_path,
                "from_hf": True,
                "hidden_size": config.vision_hidden_size,
                "vision_select_layer": config.select_layer,
                "vision_select_feature": config.select_feature,
                "freeze": True,
            },
            "mm_mlp_adapter_type": config.projector,
            "use_im_start_end": config.media_wrap == "outside",
        },
        "data": {
            "media_type": "video",
            "num_frames": sampling.get("num_frames", 1),
            "splice_single_frame": sampling.get("single"),
            "conv_template": template,
            "image_aspect_ratio": "square",
        },
        "mcore_gpt": True,
        "hidden_size": text.hidden_size,
        "ffn_hidden_size": text.intermediate_size,
        "num_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
        "num_query_groups": text.num_key_value_heads,
        "encoder_seq_length": text.max_position_embeddings,
        "layernorm_epsilon": text.rms_norm_eps,
        "normalization": "rmsnorm",
        "activation": "fast-swiglu",
        "kv_channels": text.head_dim,
        "rotary_base": turning["rope_theta"],
        "seq_len_interpolation_factor": turning["factor"] if _is(turning, "linear") else None,
        "scale_positional_embedding": _is(turning, "llama3"),
        "share_embeddings_and_output_weights": bool(text.tie_word_embeddings),
    }


def _is(turning: Mapping[str, Any], kind: str) -> bool:
    return bool(turning.get("rope_type") == kind)
