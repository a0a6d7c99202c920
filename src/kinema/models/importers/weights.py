"""Tensors from files that others wrote: torch pickles and safetensors, never code."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file
from torch import Tensor

from kinema.errors import ModelError, ModelNotFound, UnsafeModel

Weights = dict[str, Tensor]

_PLAIN_BYTES: list[Any] = [bytes, (bytes, "__builtin__.bytes"), (io.BytesIO, "_io.BytesIO")]
"""How Megatron's ``_extra_state`` entries stand between the tensors; they are dropped."""

_WORDS = ("embed_tokens.weight", "lm_head.weight")
"""What has a row a token."""
_SHARDS = ("*.safetensors", "pytorch_model*.bin")


def read_weights(path: Path) -> Weights:
    """All tensors of one ``.safetensors`` or torch file, or of a checkpoint folder's shards.

    Raises:
        ModelNotFound: nothing is there.
        UnsafeModel: the file would run code when it is unpickled.
        ModelError: it is no dictionary of tensors.
    """
    if path.is_dir():
        shards = next(filter(None, (sorted(path.glob(pattern)) for pattern in _SHARDS)), None)
        if shards is None:
            raise ModelNotFound(
                f"{path} holds no weights.", hint=f"One of {', '.join(_SHARDS)} is wanted."
            )
        return {name: tensor for shard in shards for name, tensor in read_weights(shard).items()}
    if not path.is_file():
        raise ModelNotFound(f"There is no weight file {path}.", hint="Check the path.")
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = _unpickle(path, path.name)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path.name} holds no state dict.", hint="Save model.state_dict().")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def read_tensor(file: BinaryIO, *, name: str) -> Tensor:
    """The one tensor of a torch file.

    Raises:
        UnsafeModel: the file would run code when it is unpickled.
        ModelError: it is no tensor.
    """
    loaded = _unpickle(file, name)
    if not isinstance(loaded, Tensor):
        raise ModelError(
            f"{name} holds a {type(loaded).__name__}, no tensor.", hint="Download it again."
        )
    return loaded


def _unpickle(file: Path | BinaryIO, name: str) -> object:
    try:
        with torch.serialization.safe_globals(_PLAIN_BYTES):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeModel(
            f"{name} holds more than tensors, and reading it would run its code.",
            hint="Ask for a safetensors file, or for a state dict saved alone.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(
            f"{name} is not a torch file, or it is cut off.", hint="Download it again."
        ) from error


def grow_vocabulary(weights: Weights, rows: int) -> Weights:
    """The weights with rows added to embeddings and head, each the mean of the old ones.

    That is how Video-ChatGPT starts the embeddings of its new tokens.
    """

    def grown(weight: Tensor) -> Tensor:
        mean = weight.float().mean(dim=0, keepdim=True).to(weight.dtype)
        return torch.cat([weight, mean.expand(rows - len(weight), -1)])

    short = {n: t for n, t in weights.items() if n.endswith(_WORDS) and len(t) < rows}
    return weights | {name: grown(weight) for name, weight in short.items()}


def with_rows(weights: Weights, rows: int) -> Weights:
    """The weights with embeddings and head of exactly that many rows: the last cut, or grown."""
    cut = {n: t[:rows] for n, t in weights.items() if n.endswith(_WORDS) and len(t) > rows}
    return grow_vocabulary(weights | cut, rows)


def digest(weights: Weights) -> str:
    """Thirty-two hex digits of names, shapes and values."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
