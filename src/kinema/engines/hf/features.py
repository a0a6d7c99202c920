"""Vision features on disk, so that tomorrow's session skips the encoder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

_METHODS = ("get_image_features", "get_video_features")
_FIELDS = ("pooler_output", "deepstack_features")
"""What the rest of the model reads of a vision tower's output."""


def cache_features(model: Any, folder: Path, *, weights: str) -> None:
    """Let a loaded model look up the features of pixels it has encoded before.

    Args:
        model: its ``get_image_features`` and ``get_video_features`` are wrapped.
        folder: one safetensors file for each distinct call.
        weights: names the weights and their number format; part of every key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = model.base_model
    for name in _METHODS:
        if hasattr(base, name):
            setattr(base, name, _cached(getattr(base, name), folder, f"{weights} {name}"))


def _cached(encode: Callable[..., Any], folder: Path, salt: str) -> Callable[..., Any]:
    """A feature method that asks the disk first."""

    @wraps(encode)  # transformers reads the signature
    def look_up(*args: Any, **kwargs: Any) -> Any:
        pixels = next(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))
        file = folder / f"{_digest(salt, args, kwargs)}.safetensors"
        if file.is_file() and (found := _load(file, pixels.device)) is not None:
            return found
        features = encode(*args, **kwargs)
        _save(file, features)
        return features

    return look_up


def _digest(salt: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    digest = hashlib.blake2b(salt.encode(), digest_size=20)
    for name, value in [*enumerate(args), *sorted(kwargs.items())]:
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, str | int | float | bool | list | tuple):
            digest.update(f"{name} {value}".encode())
    return digest.hexdigest()


def _save(file: Path, features: Any) -> None:
    """Written under another name first, so that a half-written file is never read."""
    fields = {field: getattr(features, field, None) for field in _FIELDS}
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for field, value in fields.items()
        for name, tensor in _named(field, value)
    }
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(handle)
    save_file(tensors, name)
    Path(name).replace(file)


def _named(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor under its own name, those of a sequence under ``name.0``, ``name.1`` and so on."""
    if isinstance(value, torch.Tensor):
        yield name, value
    for i, item in enumerate(value if isinstance(value, list | tuple) else ()):
        yield from _named(f"{name}.{i}", item)


def _load(file: Path, device: torch.device) -> SimpleNamespace | None:
    """The saved features; None when the file is damaged, which a new one then replaces."""
    try:
        tensors = load_file(file, device=str(device))
    except (SafetensorError, OSError):
        return None
    return SimpleNamespace(**{field: _gathered(field, tensors) for field in _FIELDS})


def _gathered(name: str, tensors: dict[str, torch.Tensor]) -> Any:
    if name in tensors:
        return tensors[name]
    starts = {n.removeprefix(f"{name}.").split(".")[0] for n in tensors if n.startswith(f"{name}.")}
    return [_gathered(f"{name}.{i}", tensors) for i in range(len(starts))] or None
