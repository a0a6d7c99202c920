"""NeVA's own inference YAML and its ``a.b=c`` overrides, in our terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinema.engines import world_size
from kinema.errors import MissingCapability, UnknownName, UsageError

_DEAD = frozenset(
    (
        "quality",
        "toxicity",
        "humor",
        "creativity",
        "violence",
        "helpfulness",
        "not_appropriate",
        "server",
        "port",
        "web_server",
        "share",
        "username",
        "password",
        "web_port",
        "cluster_type",
        "pipeline_model_parallel_split_rank",
        "checkpoint_dir",
        "checkpoint_name",
        "hparams_file",
        "trainer.logger",
        "trainer.accelerator",
        "trainer.enable_checkpointing",
        "trainer.use_distributed_sampler",
        "inference.images_base_path",
        "quantization.decoder_type",
        "quantization.inference_tensor_parallel",
        "quantization.sm_version",
    )
)
"""Keys of the YAML that NeVA itself never reads."""
_PARAMS = {
    "inference.top_k": "top_k",
    "inference.repetition_penalty": "repetition_penalty",
    "inference.tokens_to_generate": "max_new_tokens",
    "inference.min_tokens_to_generate": "min_new_tokens",
    "inference.seed": "seed",
}
_OPTIONS = {
    "inference.media_base_path": "media_base_path",
    "inference.insert_media_token": "insert_media_token",
    "inference.media_type": "media_type",
    "inference.add_BOS": "add_bos",
    "add_media_sep": "add_media_sep",
}
_SETTINGS = {"inference.batch_size": "batch_size"}
_FILES = {
    "prompt_file": "prompt_file",
    "output_file": "output",
    "base_model_file": "base_model",
}
_READ_HERE = (
    "neva_model_file",
    "inference.greedy",
    "inference.temperature",
    "inference.top_p",
    "inference.end_strings",
    "inference.compute_logprob",
    "inference.all_probs",
    "trainer.precision",
    "trainer.devices",
    "trainer.num_nodes",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "quantization.enable",
    "quantization.algorithm",
    "quantization.num_samples",
)
_KNOWN = {*_PARAMS, *_OPTIONS, *_SETTINGS, *_FILES, *_READ_HERE, *_DEAD}
PRECISIONS = {
    "bf16": "bfloat16",
    "bf16-mixed": "bfloat16",
    "bf16-true": "bfloat16",
    "16": "float16",
    "16-mixed": "float16",
    "16-true": "float16",
    "32": "float32",
    "32-true": "float32",
}
"""NeVA's names of number formats, and torch's."""
_QUANTIZATIONS = {"awq": "torchao-int4", "int8_sq": "torchao-int8", "fp8": "torchao-fp8"}


@dataclass(frozen=True)
class NevaRequest:
    """What a NeVA command asks for."""

    settings: dict[str, Any]
    """Values of flags of our command, by the names of their fields."""
    notes: tuple[str, ...]
    """Sentences about what is done otherwise than the YAML reads."""


def read_neva(path: Path, overrides: Sequence[str]) -> NevaRequest:
    """Read ``neva_inference.yaml`` with Hydra-style overrides.

    Raises:
        UsageError: the file is not YAML, an override has no ``=``, or values contradict.
        UnknownName: a key that NeVA does not have.
        MissingCapability: something that nothing here can do.
    """
    values = neva_values(path) | neva_overrides(overrides)
    for key in values:
        if key not in _KNOWN:
            raise UnknownName("NeVA key", key, _KNOWN)
    given = {key: value for key, value in values.items() if value not in (None, "", "null")}
    loading, notes = _settings(given)
    settings = {ours: given[key] for key, ours in (_FILES | _OPTIONS).items() if key in given}
    if "neva_model_file" in given:
        settings["model"] = f"neva:{given['neva_model_file']}"
    settings |= _params(given) | loading
    return NevaRequest(settings, (*_dead_note(given), *notes))


def neva_values(path: Path) -> dict[str, Any]:
    """The keys of a YAML file, dotted.

    Raises:
        UsageError: the file is not YAML.
    """
    return dict(_flat(_load(path)))


def neva_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Hydra's ``a.b=c``, ``+a.b=c`` and ``++a.b=c``.

    Raises:
        UsageError: one has no ``=``.
    """
    return dict(map(_override, words))


def _load(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", hint="Check the path of NeVA's YAML.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not YAML: {error}.", hint="Check the file.") from error
    if not isinstance(loaded, Mapping):
        raise UsageError(f"{path.name} holds no keys.", hint="Give NeVA's YAML.")
    return loaded


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _override(word: str) -> tuple[str, Any]:
    key, equals, value = word.lstrip("+~").partition("=")
    if not equals:
        raise UsageError(f"{word!r} is no override.", hint="Write inference.temperature=0.2.")
    return key, yaml.safe_load(value)


def _params(given: Mapping[str, Any]) -> dict[str, Any]:
    params = {ours: given[key] for key, ours in _PARAMS.items() if key in given}
    greedy = given.get("inference.greedy", False)
    params["temperature"] = 0.0 if greedy else float(given.get("inference.temperature", 1.0))
    top_p = float(given.get("inference.top_p", 1.0))
    # NeVA switches nucleus sampling off outside 0 < p < 1.
    params["top_p"] = top_p if 0 < top_p < 1 else 1.0
    if ends := given.get("inference.end_strings"):
        params["stop"] = list(ends)
    if given.get("inference.all_probs"):
        params["all_probs"] = True
    elif given.get("inference.compute_logprob"):
        params["logprobs"] = 0
    return params


def _settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    settings = {ours: given[key] for key, ours in _SETTINGS.items() if key in given}
    notes: list[str] = []
    if "trainer.precision" in given:
        precision = str(given["trainer.precision"])
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        settings["dtype"] = PRECISIONS[precision]
    settings |= _parallel(given, notes)
    if given.get("quantization.enable"):
        settings["quantization"], note = _quantization(given)
        notes.append(note)
    return settings, notes


def _parallel(given: Mapping[str, Any], notes: list[str]) -> dict[str, int]:
    if int(given.get("pipeline_model_parallel_size", 1)) > 1:
        raise MissingCapability(
            "pipeline_model_parallel_size is above 1, and no engine for this model splits layers.",
            hint="Use tensor_model_parallel_size, or --device-map auto on one machine.",
        )
    width = int(given.get("tensor_model_parallel_size", 1))
    if width == world_size():
        return {"tensor_parallel": width}
    if width > 1:
        notes.append(
            f"tensor_model_parallel_size={width} takes effect under: torchrun "
            f"--nproc-per-node {width} -m kinema answer …"
        )
    return {}


def _quantization(given: Mapping[str, Any]) -> tuple[str, str]:
    algorithm = str(given.get("quantization.algorithm", "awq"))
    if algorithm not in _QUANTIZATIONS:
        raise UnknownName("quantization algorithm", algorithm, _QUANTIZATIONS)
    ours = _QUANTIZATIONS[algorithm]
    note = (
        f"quantization.algorithm={algorithm} becomes {ours}, weight-only: it needs no calibration, "
        "so num_samples is not used and prompts are answered once"
    )
    return ours, note


def _dead_note(given: Mapping[str, Any]) -> list[str]:
    dead = sorted(_DEAD & set(given))
    return [f"NeVA does not use {', '.join(dead)}, nor is it used here"] if dead else []
