"""Checkpoints: which files they are made of, what is in them, and onto the devices with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from kinema.errors import ModelError, ModelNotFound, UsageError
from kinema.lazy import Named
from kinema.models.lwm.config import LWMConfig, as_released, config_from_dict, infer_config
from kinema.models.lwm.llama import decoder_shapes
from kinema.models.lwm.mesh import check_model, partition, sharding
from kinema.models.lwm.stored import (
    OneLayer,
    Stack,
    StoredTensor,
    Tensor,
    index_safetensors,
)
from kinema.models.lwm.stream import index_stream, index_tree
from kinema.models.lwm.unpickle import unpickle_arrays
from kinema.models.lwm.vqgan import (
    VQGANConfig,
    infer_vqgan_config,
    unflatten,
    vqgan_shapes,
)

Tensors = Mapping[str, Tensor]

_READERS: Named[Callable[[Path], Tensors]] = Named(
    "checkpoint type",
    {
        "params": index_stream,
        "trainstate_params": index_stream,
        "flax_params": index_tree,
        "safetensors": index_safetensors,
    },
)
_SCANNED = "transformer/h/scan_decoder/"
_SINGLE = re.compile(r"transformer/h/(\d+)/(.+)")


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a checkpoint is made of."""

    params: str
    """``type::path`` of the decoder's weights."""
    vqgan: Path | None
    """The VQGAN; None for a text-only model."""
    tokenizer: Path
    """A file, or the folder it is in."""
    config: Path | None = None
    """config.json of a converted checkpoint."""


def find_files(folder: Path) -> Files:
    """The parts of a checkpoint folder, as released (params, vqgan) or as we convert it.

    Raises:
        ModelNotFound: the folder, or the decoder's weights in it, are missing.
    """
    converted = folder / "model.safetensors"
    if converted.is_file():
        return files_beside(f"safetensors::{converted}")
    released = sorted(path for path in folder.glob("*params*") if path.is_file())
    if released:
        return files_beside(f"params::{released[0]}")
    raise ModelNotFound(
        f"{folder} holds no params and no model.safetensors.",
        hint="An LWM folder has params, vqgan and tokenizer.model.",
    )


def files_beside(params: str) -> Files:
    """The parts that lie in the folder of the decoder's weights, ``type::path``."""
    folder = Path(params.rpartition("::")[2]).parent
    vqgan = (folder / name for name in ("vqgan.safetensors", "vqgan"))
    config = folder / "config.json"
    return Files(
        params=params,
        vqgan=next((path for path in vqgan if path.is_file()), None),
        tokenizer=folder,
        config=config if config.is_file() else None,
    )


def open_params(source: str) -> dict[str, Tensor]:
    """Index the decoder's weights, ``type::path``, without reading a value.

    Raises:
        UsageError: the type is unknown, or a whole training state.
        ModelNotFound: no such file.
        ModelError: the file is damaged.
    """
    kind, _, rest = source.rpartition("::")
    path = Path(rest)
    kind = kind or ("safetensors" if path.suffix == ".safetensors" else "params")
    if kind == "trainstate":
        raise UsageError(
            "A whole training state is not loaded for chat.",
            hint="Use trainstate_params::PATH, which takes the weights out of it.",
        )
    read = _READERS[kind]
    if not path.is_file():
        raise ModelNotFound(f"There is no params file {rest or source!r}.", hint=_PARAMS_HINT)
    found = read(path)
    if kind == "trainstate_params":
        found = {n: t for n, t in found.items() if n.startswith("params/params/")}
    return _bare(found)


_PARAMS_HINT = "Write params::PATH, trainstate_params::PATH, flax_params::PATH or a .safetensors."


def configure(
    tensors: Tensors, files: Files | None = None, config: LWMConfig | None = None
) -> LWMConfig:
    """The sizes to use: given ones, those of config.json, or those of the tensors.

    A text-only checkpoint makes the configuration text-only.
    """
    if config is None and files is not None and files.config is not None:
        values = json.loads(files.config.read_text(encoding="utf-8"))
        config = config_from_dict(values.get("decoder", {}))
    if config is None:
        config = infer_config({name: tensor.shape for name, tensor in tensors.items()})
        config = as_released(config, files.params if files else "")
    if "transformer/vte/embedding" not in tensors:
        config = replace(config, vision_vocab_size=0)
    return config


def load_decoder(
    tensors: Tensors, config: LWMConfig, *, mesh: Mesh | None, dtype: DTypeLike
) -> dict[str, Any]:
    """Put the weights on their devices, slice by slice, as ``dtype``.

    Raises:
        UsageError: the mesh cannot cut this model.
        ModelError: a tensor is missing or has the wrong shape; it is named.
    """
    check_model(mesh, config)
    tensors = _stacked(tensors)
    check_shapes(tensors, decoder_shapes(config))
    wanted = {name: tensors[name] for name in decoder_shapes(config)}
    for name, tensor in list(wanted.items()) if not config.scan_layers else ():
        if name.startswith(_SCANNED):
            rest = name.removeprefix(_SCANNED)
            del wanted[name]
            layers = range(config.num_hidden_layers)
            wanted |= {f"transformer/h/{i}/{rest}": OneLayer(tensor, i) for i in layers}
    placed: dict[str, Any] = unflatten(
        {n: _placed(n, tensor, mesh, dtype) for n, tensor in wanted.items()}
    )
    return placed


def _placed(name: str, tensor: Tensor, mesh: Mesh | None, dtype: DTypeLike) -> jax.Array:
    place = sharding(mesh, partition(name, len(tensor.shape)))
    return jax.make_array_from_callback(
        tensor.shape, place, lambda index: tensor.read(index or (), np.dtype(dtype))
    )


def _stacked(tensors: Tensors) -> Tensors:
    """Single layers as the stacked tensors that the partition rules and shapes speak of."""
    single = {n: m for n in tensors if (m := _SINGLE.fullmatch(n))}
    if any(n.startswith(_SCANNED) for n in tensors) or not single:
        return tensors
    parts: dict[str, dict[int, Tensor]] = {}
    for name, match in single.items():
        parts.setdefault(_SCANNED + match[2], {})[int(match[1])] = tensors[name]
    stacks = {name: Stack([of[i] for i in sorted(of)]) for name, of in parts.items()}
    return {n: t for n, t in tensors.items() if n not in single} | stacks


def check_shapes(tensors: Tensors, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file that is not of this configuration.

    Raises:
        ModelError: names the first tensor that is missing or has another shape.
    """
    for name, shape in wanted.items():
        if name not in tensors:
            near = ", ".join(sorted(tensors)[:3])
            raise ModelError(
                f"The checkpoint has no tensor {name}; it holds {len(tensors)}: {near}, ...",
                hint="Is it the right file, and the right type before '::'?",
            )
        tensor = tensors[name]
        if tensor.shape != shape:
            place = ""
            if isinstance(tensor, StoredTensor):
                place = f", at byte {tensor.spans[0][0]},"
            raise ModelError(
                f"{name}{place} is {list(tensor.shape)} and the configuration wants {list(shape)}.",
                hint="Leave the configuration out to read it off the file, or correct it.",
            )


def load_vqgan(path: Path, *, resolution: int = 256) -> tuple[VQGANConfig, dict[str, Any]]:
    """Read the VQGAN, a released pickle or converted safetensors, onto one device as float32.

    Raises:
        ModelNotFound: no such file.
        UnsafeModel: the pickle holds more than arrays.
        ModelError: it is no VQGAN.
    """
    if not path.is_file():
        raise ModelNotFound(f"There is no VQGAN file {path}.", hint=_VQGAN_HINT)
    tensors = open_vqgan(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config = replace(infer_vqgan_config(shapes), resolution=resolution)
    check_shapes(tensors, vqgan_shapes(config))
    leaves = {n: jnp.asarray(t.read((), np.dtype("float32"))) for n, t in tensors.items()}
    return config, unflatten(leaves)


_VQGAN_HINT = "Give the file called vqgan of an LWM checkpoint with --vqgan_checkpoint."


def open_vqgan(path: Path) -> dict[str, Tensor]:
    """The VQGAN's tensors by name.

    Raises:
        UnsafeModel: the pickle holds more than arrays.
        ModelError: it is damaged.
    """
    safe = path.suffix == ".safetensors"
    return _bare(index_safetensors(path) if safe else unpickle_arrays(path))


def _bare(tensors: Tensors) -> dict[str, Tensor]:
    """Names without the ``params/`` that flax puts before them."""
    return {re.sub(r"^(params/)+", "", name): tensor for name, tensor in tensors.items()}
