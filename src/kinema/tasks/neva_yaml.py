"""NeVA's own inference YAML and its ``a.b=c`` overrides, in our terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinema.engines import world_size
from kinema.errors import MissingCapability, UnknownName, UsageError
from kinema.lazy import load

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


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)  # YAML takes 1e-3 for a text


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _switch(value: Any) -> bool:
    if value not in (True, False):
        raise TypeError
    return bool(value)


def _text(value: Any) -> str:
    if isinstance(value, bool | list):
        raise TypeError
    return str(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError
    return list(map(_text, value))


def _pair(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    return list(map(_number, value))


@dataclass(frozen=True)
class Kind:
    """What a key of NeVA takes."""

    read: Callable[[Any], Any]
    """Makes the value of what YAML says, or raises ``TypeError`` or ``ValueError``."""
    allowed: str


NUMBER = Kind(_number, "a number")
WHOLE = Kind(_whole, "a whole number")
SWITCH = Kind(_switch, "True or False")
TEXT = Kind(_text, "a text")
TEXTS = Kind(_texts, 'a list of texts, like ["</s>"]')
PAIR = Kind(_pair, "a list of two numbers, like [0.9, 0.98]")
_KINDS = {
    **dict.fromkeys(
        (
            *("inference.top_k", "inference.tokens_to_generate", "inference.seed"),
            *("inference.min_tokens_to_generate", "inference.batch_size"),
            *("tensor_model_parallel_size", "pipeline_model_parallel_size"),
            *("trainer.devices", "trainer.num_nodes"),
        ),
        WHOLE,
    ),
    **dict.fromkeys(
        ("inference.repetition_penalty", "inference.temperature", "inference.top_p"), NUMBER
    ),
    **dict.fromkeys(
        (
            *("inference.greedy", "inference.compute_logprob", "inference.all_probs"),
            *("inference.add_BOS", "add_media_sep", "quantization.enable"),
        ),
        SWITCH,
    ),
    **dict.fromkeys((*_FILES, "neva_model_file", "trainer.precision"), TEXT),
    **dict.fromkeys(
        ("inference.media_base_path", "inference.insert_media_token", "inference.media_type"), TEXT
    ),
    "quantization.algorithm": TEXT,
    "inference.end_strings": TEXTS,
}
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
    given = checked(values, _KINDS)
    loading, notes = _settings(given)
    settings = {ours: given[key] for key, ours in (_FILES | _OPTIONS).items() if key in given}
    if "neva_model_file" in given:
        settings["model"] = f"neva:{given['neva_model_file']}"
    settings |= _params(given) | loading
    return NevaRequest(settings, (*_dead_note(given), *notes))


def checked(values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The values that are given (neither null nor empty), each of the kind that its key takes.

    Raises:
        UsageError: one is of another kind.
    """
    given = {key: value for key, value in values.items() if value not in (None, "", "null")}
    for key in given.keys() & kinds.keys():
        try:
            given[key] = kinds[key].read(given[key])
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"{key} is {given[key]!r}; it must be {kinds[key].allowed}.",
                hint="Repair it in NeVA's YAML or in the override.",
            ) from None
    return given


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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"{word!r} holds no YAML behind =.", hint="Put the value in ''.") from None


def _params(given: Mapping[str, Any]) -> dict[str, Any]:
    params = {ours: given[key] for key, ours in _PARAMS.items() if key in given}
    greedy = given.get("inference.greedy", False)
    params["temperature"] = 0.0 if greedy else given.get("inference.temperature", 1.0)
    top_p = given.get("inference.top_p", 1.0)
    # NeVA switches nucleus sampling off outside 0 < p < 1.
    params["top_p"] = top_p if 0 < top_p < 1 else 1.0
    if ends := given.get("inference.end_strings"):
        params["stop"] = ends
    if given.get("inference.all_probs"):
        params["all_probs"] = True
    elif given.get("inference.compute_logprob"):
        params["logprobs"] = 0
    return params


def _settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    settings = {ours: given[key] for key, ours in _SETTINGS.items() if key in given}
    notes: list[str] = []
    if "trainer.precision" in given:
        precision = given["trainer.precision"]
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        settings["dtype"] = PRECISIONS[precision]
    if given.get("quantization.enable"):
        settings["quantization"], note = _quantization(given)
        notes.append(note)
    return settings | _parallel(given, notes), notes


def _parallel(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    width: int = given.get("tensor_model_parallel_size", 1)
    stages: int = given.get("pipeline_model_parallel_size", 1)
    if stages > 1:
        return _stages(stages, width, notes)
    if width == world_size():
        return {"tensor_parallel": width}
    if width > 1 and (hindrance := _hindrance(given, width)):
        notes.append(f"tensor_model_parallel_size={width} takes no effect: {hindrance}")
        width = 1
    return {"tensor_parallel": width} if width > 1 else {}


def _stages(stages: int, width: int, notes: list[str]) -> dict[str, Any]:
    """Layers on several GPUs: one process runs them in turn, as a pipeline does with one prompt.

    Raises:
        MissingCapability: there are no such GPUs, or layers are to be sliced as well.
    """
    kind, count = load("kinema.engines.device:count_devices")()
    if width > 1 or world_size() > 1 or kind != "GPUs" or count < stages:
        raise MissingCapability(
            f"pipeline_model_parallel_size={stages} puts layers on {stages} GPUs without slicing "
            f"them; this machine has {count} {kind}, and tensor_model_parallel_size is {width}.",
            hint="Use tensor_model_parallel_size alone: slices run at the same time, and the "
            "stages of a pipeline one after the other.",
        )
    notes.append(
        f"pipeline_model_parallel_size={stages} becomes --device-map auto: the layers lie on the "
        "GPUs of this machine, and one process runs them"
    )
    return {"device_map": "auto"}


def _hindrance(given: Mapping[str, Any], width: int) -> str:
    """Why slices are not put on processes that this command starts; empty where they are."""
    if world_size() > 1:
        return f"torchrun started {world_size()} processes"
    if given.get("quantization.enable"):
        return "quantised weights stay whole"
    asked = given.get("trainer.devices", width) * given.get("trainer.num_nodes", 1)
    if asked != width:
        return (
            f"trainer.devices times trainer.num_nodes is {asked}; make it {width}, or start "
            f"torchrun --nproc-per-node {width} -m kinema answer …"
        )
    kind, count = load("kinema.engines.device:count_devices")()
    return f"this machine has {count} {kind}" if count < width else ""


def _quantization(given: Mapping[str, Any]) -> tuple[str, str]:
    algorithm = given.get("quantization.algorithm", "awq")
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
