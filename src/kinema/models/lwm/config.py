"""Sizes of a Large World Model: by name, from JSON, or read off a checkpoint's shapes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from kinema.errors import ModelError, UnknownName, UsageError
from kinema.models.lwm.unpickle import read_plain

LONGEST = 1 << 20
"""Tokens that rotary angles are exact for; see ``rope``."""
VISION_THETA = 5e7
"""Base of the rotary angles that every released vision checkpoint was trained with."""


@dataclass(frozen=True, kw_only=True)
class LWMConfig:
    """The decoder's shape and how its layers are run.

    Raises:
        UsageError: heads do not divide the hidden size, or a size is below 1.
    """

    vocab_size: int = 32000
    """Text tokens: the LLaMA-2 vocabulary."""
    vision_vocab_size: int = 8448
    """Vision tokens: 8192 codes, two frame ends, the rest unused; 0 for a text-only model."""
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    max_sequence_length: int = 131072
    """Longest prompt and answer together."""
    theta: float = VISION_THETA
    """Base of the rotary angles."""
    rms_norm_eps: float = 1e-6
    tie_vision_embeddings: bool = False
    """Reuse the vision embedding as vision head."""
    scan_query_chunk_size: int = 512
    """Queries of one attention block."""
    scan_key_chunk_size: int = 512
    """Keys of one attention block."""
    scan_mlp_chunk_size: int = 2048
    """Positions that pass the feed-forward together."""
    scan_layers: bool = True
    """Compile one layer and scan it; False compiles every layer on its own, as CPUs always do."""

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; it must be 1 or more.",
                    hint="See --load_llama_config and --update_llama_config.",
                )
        if self.max_sequence_length > LONGEST:
            raise UsageError(
                f"max_sequence_length is {self.max_sequence_length}; positions end at {LONGEST}.",
                hint=f"No released checkpoint is longer: use {LONGEST} or less.",
            )
        if self.hidden_size % (2 * self.num_attention_heads):
            raise UsageError(
                f"hidden_size {self.hidden_size} does not split into "
                f"{self.num_attention_heads} heads of even width.",
                hint="Choose num_attention_heads so that hidden_size / heads is even.",
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def sees(self) -> bool:
        """True when the model has vision tokens."""
        return self.vision_vocab_size > 0


_KNOWN = frozenset(field.name for field in fields(LWMConfig))
_SIZES = [f.name for f in fields(LWMConfig) if f.type == "int" and f.name != "vision_vocab_size"]


def _size(hidden: int, intermediate: int, layers: int, heads: int, **more: Any) -> LWMConfig:
    return LWMConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        **more,
    )


STANDARD: Mapping[str, LWMConfig] = {
    "debug": _size(256, 256, 2, 2),
    "200m": _size(1024, 2048, 14, 8),
    "1b": _size(2048, 5504, 22, 16),
    "3b": _size(3200, 8640, 26, 32),
    "7b": _size(4096, 11008, 32, 32),
    "13b": _size(5120, 13824, 40, 40),
    "30b": _size(6656, 17920, 60, 52),
    "65b": _size(8192, 22016, 80, 64, rms_norm_eps=1e-5),
}
"""The released sizes by name; all are LLaMA-1/2 shapes."""

_IGNORED = frozenset({
    "attn_pdrop", "base_model", "bos_token_id", "embd_pdrop", "eos_token_id", "initializer_range",
    "mesh_dim", "model_type", "num_key_value_heads", "pad_token_id", "param_scan_axis",
    "remat_attention", "remat_block", "remat_mlp", "resid_pdrop", "sample_mode", "scan_attention",
    "scan_mlp", "tie_word_embeddings", "use_cache",
})  # fmt: skip
"""Settings of the original that change training, or that kinema decides by itself."""


def load_config(source: str) -> LWMConfig:
    """Read a configuration from a standard name, ``json::path``, ``pickle::path`` or a JSON path.

    Raises:
        UnknownName: neither a standard name nor a file.
        UsageError: the file holds no configuration, or an unknown setting.
        ModelError: the pickle is damaged.
    """
    if source in STANDARD:
        return STANDARD[source]
    kind, _, rest = source.rpartition("::")
    path = Path(rest)
    if kind not in ("", "json", "pickle") or not path.is_file():
        raise UnknownName("LWM configuration", source, [*STANDARD, "json::PATH", "pickle::PATH"])
    if kind == "pickle":
        # What the original saves beside a checkpoint.
        metadata = read_plain(path)
        values = metadata.get("llama_config") if isinstance(metadata, dict) else None
        if not isinstance(values, dict):
            raise UsageError(
                f"{path} holds no llama_config.", hint="Give a standard name (7b) or json::PATH."
            )
    else:
        values = _read_object(path)
    if "transformers_version" in values:  # it writes dozens of settings that no LLaMA has
        values = {name: value for name, value in values.items() if name in _KNOWN}
    return config_from_dict(values)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}.", hint="Write one JSON object.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no JSON object.", hint='Write {"hidden_size": 4096, ...}.')
    return values


def config_from_dict(values: Mapping[str, Any], base: LWMConfig | None = None) -> LWMConfig:
    """Apply settings to a configuration; those that only train a model are left aside.

    Raises:
        UnknownName: a setting that neither we nor the original have.
        UsageError: a value of the wrong type.
    """
    given = {name: value for name, value in values.items() if name not in _IGNORED}
    for name, value in given.items():
        if name not in _KNOWN:
            raise UnknownName("LWM setting", name, _KNOWN)
        _check_type(name, value)
    return replace(base or LWMConfig(), **given)


def _check_type(name: str, value: Any) -> None:
    wanted = type(getattr(LWMConfig(), name))
    fits = isinstance(value, (int, float) if wanted is float else wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(
            f"{name} is {value!r}; it must be of type {wanted.__name__}.",
            hint="Check --update_llama_config.",
        )


def update_config(config: LWMConfig, text: str) -> LWMConfig:
    """Apply ``dict(theta=50000000, ...)`` or ``{"theta": 50000000}``, read as literals only.

    Raises:
        UsageError: the text is anything but a dict of literals.
        UnknownName: a setting that does not exist.
    """
    return config_from_dict(parse_literals(text), config) if text.strip() else config


def parse_literals(text: str) -> dict[str, Any]:
    """Read ``dict(a=1)`` or ``{"a": 1}`` without evaluating anything.

    Raises:
        UsageError: the text is anything but a dict of literals.
    """
    try:
        return _literal_dict(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        raise UsageError(
            f"{text!r} is no dict of plain values; nothing in it is evaluated.",
            hint="Write dict(theta=50000000, max_sequence_length=131072).",
        ) from None


def _literal_dict(node: ast.expr) -> dict[str, Any]:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            named = {k.arg: ast.literal_eval(k.value) for k in keywords if k.arg is not None}
            if len(named) == len(keywords):
                return named
        case ast.Dict():
            pairs: dict[str, Any] = ast.literal_eval(node)
            if all(isinstance(name, str) for name in pairs):
                return pairs
    raise ValueError


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> LWMConfig:
    """Read the sizes off a checkpoint's tensor shapes (scanned or unscanned layers).

    The number of heads and the rotary base leave no trace in the shapes: heads come from the
    standard table, or are 128 wide; theta is the one of the vision checkpoints.

    Raises:
        ModelError: the tensors are not those of a Large World Model.
    """
    try:
        vocab_size, hidden = shapes["transformer/wte/embedding"]
        intermediate, layers = _layer_sizes(shapes)
    except (KeyError, ValueError):
        raise ModelError(
            "The checkpoint holds no transformer/wte/embedding and feed_forward/w1/kernel.",
            hint="Give the language model's params file here and the VQGAN separately.",
        ) from None
    vision = shapes.get("transformer/vte/embedding", (0, hidden))[0]
    sizes = (hidden, intermediate, layers)
    known = {
        (c.hidden_size, c.intermediate_size, c.num_hidden_layers): c.num_attention_heads
        for c in STANDARD.values()
    }
    heads = known.get(sizes, max(1, hidden // 128))
    tied = bool(vision) and "vision_head/kernel" not in shapes
    return _size(
        *sizes, heads, vocab_size=vocab_size, vision_vocab_size=vision, tie_vision_embeddings=tied
    )


_RELEASED_TEXT = {"128K": (1 << 17, 1e7), "256K": (1 << 18, 1e7), "512K": (1 << 19, 2.5e7),
                  "1M": (1 << 20, 5e7)}  # fmt: skip
"""Longest sequence and rotary base of the text-only releases, as their model cards say."""


def as_released(config: LWMConfig, path: str) -> LWMConfig:
    """What shapes cannot tell of a text-only release, by the name of its folder."""
    named = re.findall(r"LWM-Text(?:-Chat)?-(\d+[KM])", path)
    if config.sees or not named or named[-1] not in _RELEASED_TEXT:
        return config
    length, theta = _RELEASED_TEXT[named[-1]]
    return replace(config, max_sequence_length=length, theta=theta)


def _layer_sizes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    scanned = shapes.get("transformer/h/scan_decoder/feed_forward/w1/kernel")
    if scanned is not None:
        layers, _, intermediate = scanned
        return intermediate, layers
    numbers = {name.split("/")[2] for name in shapes if name.startswith("transformer/h/")}
    return shapes["transformer/h/0/feed_forward/w1/kernel"][1], len(numbers)
