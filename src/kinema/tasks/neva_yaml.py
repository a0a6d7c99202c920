"""NeVA's own inference YAML and its ``a.b=c`` overrides, in our terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kinema.engines import world_size
from kinema.errors import MissingCapability, UnknownName, UsageError
from kinema.lazy import Named, load

_DEAD = (
    "quality", "toxicity", "humor", "creativity", "violence", "helpfulness", "not_appropriate",
    "server", "port", "web_server", "share", "username", "password", "web_port", "cluster_type",
    "pipeline_model_parallel_split_rank", "checkpoint_dir", "checkpoint_name", "hparams_file",
    "trainer.logger", "trainer.accelerator", "trainer.enable_checkpointing",
    "trainer.use_distributed_sampler", "inference.images_base_path", "quantization.decoder_type",
    "quantization.inference_tensor_parallel", "quantization.sm_version",
)  # fmt: skip
"""Keys of the YAML that NeVA itself never reads."""
PRECISIONS = Named(
    "precision",
    {
        "bf16": "bfloat16",
        "bf16-mixed": "bfloat16",
        "bf16-true": "bfloat16",
        "16": "float16",
        "16-mixed": "float16",
        "16-true": "float16",
        "32": "float32",
        "32-true": "float32",
    },
)
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


class Kind(NamedTuple):
    """What a key of NeVA takes."""

    read: Callable[[Any], Any]
    """Makes the value of what YAML says, or raises ``TypeError`` or ``ValueError``."""
    allowed: str


ANY = Kind(lambda value: value, "anything")
NUMBER = Kind(_number, "a number")
WHOLE = Kind(_whole, "a whole number")
SWITCH = Kind(_switch, "True or False")
TEXT = Kind(_text, "a text")
TEXTS = Kind(_texts, 'a list of texts, like ["</s>"]')
PAIR = Kind(_pair, "a list of two numbers, like [0.9, 0.98]")


class Key(NamedTuple):
    """A key of NeVA that is read here."""

    kind: Kind
    field: str = ""
    """Of our settings, where it becomes one as it is."""


_KEYS = {
    "prompt_file": Key(TEXT, "prompt_file"),
    "output_file": Key(TEXT, "output"),
    "base_model_file": Key(TEXT, "base_model"),
    "neva_model_file": Key(TEXT),
    "add_media_sep": Key(SWITCH, "add_media_sep"),
    "inference.media_base_path": Key(TEXT, "media_base_path"),
    "inference.insert_media_token": Key(TEXT, "insert_media_token"),
    "inference.media_type": Key(TEXT, "media_type"),
    "inference.add_BOS": Key(SWITCH, "add_bos"),
    "inference.top_k": Key(WHOLE, "top_k"),
    "inference.repetition_penalty": Key(NUMBER, "repetition_penalty"),
    "inference.tokens_to_generate": Key(WHOLE, "max_new_tokens"),
    "inference.min_tokens_to_generate": Key(WHOLE, "min_new_tokens"),
    "inference.seed": Key(WHOLE, "seed"),
    "inference.batch_size": Key(WHOLE, "batch_size"),
    "inference.greedy": Key(SWITCH),
    "inference.temperature": Key(NUMBER),
    "inference.top_p": Key(NUMBER),
    "inference.end_strings": Key(TEXTS),
    "inference.compute_logprob": Key(SWITCH),
    "inference.all_probs": Key(SWITCH),
    "trainer.precision": Key(TEXT),
    "trainer.devices": Key(WHOLE),
    "trainer.num_nodes": Key(WHOLE),
    "tensor_model_parallel_size": Key(WHOLE),
    "pipeline_model_parallel_size": Key(WHOLE),
    "quantization.enable": Key(SWITCH),
    "quantization.algorithm": Key(TEXT),
    "quantization.num_samples": Key(ANY),
}
_QUANTIZATIONS = Named(
    "quantization algorithm",
    {"awq": "torchao-int4", "int8_sq": "torchao-int8", "fp8": "torchao-fp8"},
)


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
        if key not in _KEYS and key not in _DEAD:
            raise UnknownName("NeVA key", key, (*_KEYS, *_DEAD))
    given = checked(values, _KEYS)
    notes: list[str] = []
    if dead := sorted(set(_DEAD) & set(given)):
        notes.append(f"NeVA does not use {', '.join(dead)}, nor is it used here")
    settings = renamed(given, _KEYS) | _params(given) | _loading(given, notes)
    if "neva_model_file" in given:
        settings["model"] = f"neva:{given['neva_model_file']}"
    return NevaRequest(settings, tuple(notes))


def checked(values: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The values that are given (neither null nor empty), each of the kind that its key takes.

    Raises:
        UsageError: one is of another kind.
    """
    given = {key: value for key, value in values.items() if value not in (None, "", "null")}
    for key in given.keys() & keys.keys():
        try:
            given[key] = keys[key].kind.read(given[key])
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"{key} is {given[key]!r}; it must be {keys[key].kind.allowed}.",
                hint="Repair it in NeVA's YAML or in the override.",
            ) from None
    return given


def renamed(given: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The values that are settings of ours as they are, by our names."""
    return {of.field: given[key] for key, of in keys.items() if of.field and key in given}


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
    greedy, top_p = given.get("inference.greedy", False), given.get("inference.top_p", 1.0)
    params: dict[str, Any] = {
        "temperature": 0.0 if greedy else given.get("inference.temperature", 1.0),
        # NeVA switches nucleus sampling off outside 0 < p < 1.
        "top_p": top_p if 0 < top_p < 1 else 1.0,
    }
    if ends := given.get("inference.end_strings"):
        params["stop"] = ends
    if given.get("inference.all_probs"):
        params["all_probs"] = True
    elif given.get("inference.compute_logprob"):
        params["logprobs"] = 0
    return params


def _loading(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if "trainer.precision" in given:
        settings["dtype"] = PRECISIONS[given["trainer.precision"]]
    if given.get("quantization.enable"):
        settings["quantization"] = _quantization(given, notes)
    return settings | _parallel(given, notes)


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


def _quantization(given: Mapping[str, Any], notes: list[str]) -> str:
    algorithm = given.get("quantization.algorithm", "awq")
    ours = _QUANTIZATIONS[algorithm]
    notes.append(
        f"quantization.algorithm={algorithm} becomes {ours}, weight-only: it needs no calibration, "
        "so num_samples is not used and prompts are answered once"
    )
    return ours
