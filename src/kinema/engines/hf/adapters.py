"""LoRA weights on top of a model: every one of them has its place there, or there is an error.

PEFT leaves keys aside that match nothing, and fills adapters that got no weights at random, with
no more than a note in a log. Here that is an error which names them. Keys are read as these wrote
them: today's transformers, transformers before 4.52 and before 5, and the repository of LLaVA.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kinema.engines.failures import first_line
from kinema.engines.hf.errors import is_out_of_memory
from kinema.errors import ModelError, ModelNotFound, UnsafeModel
from kinema.models.importers.weights import read_weights

_CONFIG, _WEIGHTS, _WHOLE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "non_lora_trainables.bin",
)
"""As PEFT calls them; the last one is of LLaVA's repository, whose projector learns as a whole."""
_PREFIX = "base_model.model."
_DECODER = re.compile(r"^model\.(?=layers\.|embed_tokens\.|norm\.)")
"""How names of the language model begin in LLaVA's repository, and in Qwen2-VL before 4.52."""
_FORMER_NAMES = (
    (_DECODER, "model.language_model."),
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^model\.vision_tower\.vision_tower\."), "model.vision_tower."),
    (re.compile(r"^model\.mm_projector\.0\."), "model.multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "model.multi_modal_projector.linear_2."),
    (re.compile(r"^(?=(visual|vision_tower|vision_model|multi_modal_projector)\.)"), "model."),
    (re.compile(r"(?<=vision_tower\.)vision_model\."), ""),
)
"""Patterns of former module names and what replaces them, tried in this order."""


def add_adapter(model: Any, folder: Path) -> None:
    """Put the weights of a folder that PEFT or LLaVA's repository saved on top of a model.

    Raises:
        ModelNotFound: it is no such folder.
        UnsafeModel: its weights are a pickle alone.
        ModelError: a weight has no place in the model, one is missing, or one has another size.
    """
    config = _read_config(folder)
    _check_class(config, model, folder)
    try:
        tensors = load_file(folder / _WEIGHTS)
    except SafetensorError as problem:
        raise ModelError(
            f"{folder / _WEIGHTS} cannot be read: {first_line(problem)}.",
            hint="The file may be cut short; copy it again.",
        ) from problem
    if (folder / _WHOLE).is_file():
        tensors |= dict(read_weights(folder / _WHOLE))
    modules = dict(model.named_modules())
    named = {_placed_name(key, modules): tensor for key, tensor in tensors.items()}
    whole = {key: tensor for key, tensor in named.items() if _owner(key, modules) is not None}
    learned = {key: tensor for key, tensor in named.items() if key not in whole}
    _check_widths(learned, modules, config, folder)
    settings = PeftConfig.from_pretrained(str(folder))
    settings.modules_to_save = None  # they are among the whole weights
    if any(_DECODER.match(key.removeprefix(_PREFIX)) for key in tensors):
        _leave_out(settings, model, learned)
    _put(model, settings, learned, config, folder)
    # Afterwards: PEFT has put a layer that learned in both ways into one of its own.
    _copy(whole, modules, config, folder)


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / _CONFIG).is_file():
        raise ModelNotFound(
            f"{folder} holds no {_CONFIG}.", hint="--adapter takes a folder that PEFT saved."
        )
    if not (folder / _WEIGHTS).is_file():
        raise UnsafeModel(
            f"{folder} holds no {_WEIGHTS}.",
            hint="Save it again with safe_serialization=True; a pickle can run code.",
        )
    try:
        found = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ModelError(
            f"{folder / _CONFIG} is not JSON: {problem}.", hint="Copy the adapter again."
        ) from problem
    return found if isinstance(found, dict) else {}


def _check_class(config: Mapping[str, Any], model: Any, folder: Path) -> None:
    """PEFT writes the class that an adapter was trained in, unless it was told a task."""
    trained = (config.get("auto_mapping") or {}).get("base_model_class")
    own = type(model).__name__
    if trained is not None and trained != own:
        raise _unfit(folder, f"it was trained in {trained}, and the model is {own}", config)


def _placed_name(key: str, modules: Mapping[str, Any]) -> str:
    """The name of a weight in today's model, where its former name has one."""
    name = key.removeprefix(_PREFIX)
    if _module(name, modules) is not None:
        return name
    renamed = name
    for pattern, replacement in _FORMER_NAMES:
        renamed = pattern.sub(replacement, renamed)
    return name if _module(renamed, modules) is None else renamed


def _module(name: str, modules: Mapping[str, Any]) -> Any:
    """The module that a weight belongs to or adapts: the longest name that leads to one."""
    parts = name.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    found = next((modules[one] for one in names if one in modules), None)
    # A whole part of the model, such as its decoder, is the place of no weight.
    return found if found is None or not any(found.children()) else None


def _owner(name: str, modules: Mapping[str, Any]) -> Any:
    """The module that holds a weight of this very name; None for one of an adapter."""
    module, _, weight = name.rpartition(".")
    owner = modules.get(module)
    return owner if isinstance(getattr(owner, weight, None), Tensor) else None


def _check_widths(
    learned: Mapping[str, Tensor], modules: Mapping[str, Any], config: Mapping[str, Any], at: Path
) -> None:
    """Every pair of matrices is as wide as its layer."""
    for name, tensor in learned.items():
        module = _module(name, modules)
        for kind, side, width in (("lora_A", 1, "in_features"), ("lora_B", 0, "out_features")):
            own = getattr(module, width, None)
            if f".{kind}." in name and own is not None and tensor.shape[side] != own:
                sizes = f"{name} is {tensor.shape[side]} wide, and the layer {own}"
                raise _unfit(at, sizes, config)


def _leave_out(settings: Any, model: Any, learned: Iterable[str]) -> None:
    """No adapters in parts that the adapted model did not have below the same names.

    LLaVA's repository calls layers to adapt by their last names, which the vision tower of
    transformers has too; there it is wrapped, and was left out.
    """
    parts = {name for name, _ in model.base_model.named_children()}
    untouched = parts - {name.split(".")[1] for name in learned if name.startswith("model.")}
    if settings.exclude_modules is None and untouched:
        settings.exclude_modules = rf"model\.({'|'.join(sorted(untouched))})\..*|lm_head"


def _put(
    model: Any, settings: Any, learned: dict[str, Tensor], config: Mapping[str, Any], folder: Path
) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            loaded = model.load_adapter(peft_config=settings, adapter_state_dict=learned)
    except Exception as problem:
        if is_out_of_memory(problem):
            raise
        raise _unfit(folder, f"PEFT refuses it ({first_line(problem)})", config) from problem
    for kind in ("unexpected_keys", "missing_keys", "mismatched_keys", "conversion_errors"):
        if names := sorted(map(str, getattr(loaded, kind))):
            first = names[0].replace(".default.", ".")
            count = f"it has {len(names)} {kind.replace('_', ' ')}, such as {first}"
            raise _unfit(folder, count, config)


@torch.no_grad()
def _copy(
    whole: Mapping[str, Tensor], modules: Mapping[str, Any], config: Mapping[str, Any], at: Path
) -> None:
    """Weights that were trained as a whole, in place of the model's own."""
    for name, tensor in whole.items():
        own = getattr(_owner(name, modules), name.rpartition(".")[2])
        if own.shape != tensor.shape:
            sizes = f"{name} is {tuple(tensor.shape)}, and the model's {tuple(own.shape)}"
            raise _unfit(at, sizes, config)
        own.copy_(tensor)


def _unfit(folder: Path, reason: str, config: Mapping[str, Any]) -> ModelError:
    base = config.get("base_model_name_or_path")
    trained = f"It was trained on {base}. " if base else ""
    return ModelError(
        f"The adapter {folder.name} does not fit this model: {reason}.",
        hint=f"{trained}Give --model what it was trained on, or leave --adapter out.",
    )
