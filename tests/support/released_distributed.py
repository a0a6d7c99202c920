"""Megatron's distributed checkpoints, ``model_weights/`` of an archive, written from descriptions.

Arrays of zarr come from tensorstore; what stands for torch's own writer is read back by torch.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.distributed import checkpoint
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from transformers import LlamaForCausalLM

from support.released_neva import TOKENIZER_FILE, pack, slice_llama
from support.videolm import PROJECTOR


def whole_state(
    model: LlamaForCausalLM, projector: Mapping[str, Tensor], *, width: int, stacked: bool
) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """What a distributed checkpoint holds: each tensor whole, and the shape of its chunks.

    Slices of ``width`` tensor ranks are joined as Megatron numbers them. Alike layers are one
    tensor with the layer in front (``stacked``), or stand apart (``non_homogeneous_layers``).
    """
    ranks = [slice_llama(model, rank=rank, width=width) for rank in range(width)]
    whole: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
    for name, own in ranks[0].items():
        parts = [rank[name] for rank in ranks]
        if name.endswith("linear_fc1.weight"):  # gate and up are tensors of their own when saved
            halves = [part.chunk(2) for part in parts]
            joined = torch.cat([half[0] for half in halves] + [half[1] for half in halves])
            chunk: tuple[int, ...] = (len(own) // 2, own.shape[1])
        elif own.ndim == 1:
            joined, chunk = own, tuple(own.shape)
        else:
            axis = int(name.endswith(("linear_proj.weight", "linear_fc2.weight")))
            joined, chunk = torch.cat(parts, dim=axis), tuple(own.shape)
        whole[f"model.{name}"] = (joined, chunk)
    whole |= {f"model.{PROJECTOR}{n}": (t, tuple(t.shape)) for n, t in projector.items()}
    return _stack(whole, model.config.num_hidden_layers) if stacked else whole


def _stack(
    whole: dict[str, tuple[Tensor, tuple[int, ...]]], layers: int
) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    first = "model.decoder.layers.0."
    kept = {name: value for name, value in whole.items() if ".decoder.layers." not in name}
    for name, (_, chunk) in whole.items():
        if name.startswith(first):
            rest = name.removeprefix(first)
            all_of_it = [whole[f"model.decoder.layers.{i}.{rest}"][0] for i in range(layers)]
            kept[f"model.decoder.layers.{rest}"] = (torch.stack(all_of_it), (1, *chunk))
    return kept


def write_zarr(folder: Path, state: Mapping[str, tuple[Tensor, tuple[int, ...]]]) -> None:
    """``model_weights/`` as Megatron's zarr strategy leaves it; tensorstore writes the arrays."""
    import tensorstore

    for name, (tensor, chunk) in state.items():
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(folder / name)},
            "metadata": {
                "shape": list(tensor.shape),
                "chunks": list(chunk),
                "dtype": "bfloat16" if tensor.dtype == torch.bfloat16 else "<f4",
                "compressor": None,
                "fill_value": None,
                "filters": None,
                "order": "C",
                "zarr_format": 2,
            },
        }
        store = tensorstore.open(spec, create=True).result()
        store.write(tensor.float().numpy().astype(store.dtype.numpy_dtype)).result()
    _write_common(folder, "zarr")


def write_torch_dist(folder: Path, state: Mapping[str, tuple[Tensor, tuple[int, ...]]]) -> None:
    """``model_weights/`` as torch's distributed checkpoint: chunks in files, and their index.

    Torch's own classes make the index; what comes of it is read back by torch before it is used.
    """
    folder.mkdir(parents=True)
    tensors: dict[str, Any] = {}
    places = {}
    files: dict[str, io.BytesIO] = {}

    def put(key: MetadataIndex, value: Any, number: int) -> None:
        file = files.setdefault(f"__{number % 2}_0.distcp", io.BytesIO())
        name = f"__{number % 2}_0.distcp"
        start = file.tell()
        torch.save(value, file)
        places[key] = _StorageInfo(name, start, file.tell() - start)

    for name, (tensor, shape) in state.items():
        chunks = []
        counts = [whole // part for whole, part in zip(tensor.shape, shape, strict=True)]
        for number, at in enumerate(torch.cartesian_prod(*map(torch.arange, counts)).reshape(
            -1, tensor.ndim
        ).tolist()):  # fmt: skip
            offset = torch.Size(i * part for i, part in zip(at, shape, strict=True))
            where = tuple(slice(o, o + s) for o, s in zip(offset, shape, strict=True))
            chunks.append(ChunkStorageMetadata(offset, torch.Size(shape)))
            put(MetadataIndex(name, offset, number), tensor[where].clone(), number)
        properties = TensorProperties(dtype=tensor.dtype)
        tensors[name] = TensorStorageMetadata(properties, tensor.shape, chunks)
    extra = "model.decoder.layers.self_attention.linear_qkv._extra_state/shard_0_4"
    tensors[extra] = BytesStorageMetadata()
    put(MetadataIndex(extra), io.BytesIO(b"state of Transformer Engine"), 0)
    index = Metadata(tensors, None, places, StorageMeta(folder))
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    for name, file in files.items():
        (folder / name).write_bytes(file.getvalue())
    _write_common(folder, "torch_dist")
    read = {name: torch.zeros_like(tensor) for name, (tensor, _) in state.items()}
    checkpoint.load(read, checkpoint_id=folder, no_dist=True)
    assert all(torch.equal(read[name], tensor) for name, (tensor, _) in state.items())


def _write_common(folder: Path, backend: str) -> None:
    facts = {
        "sharded_backend": backend,
        "sharded_backend_version": 1,
        "common_backend": "torch",
        "common_backend_version": 1,
    }
    (folder / "metadata.json").write_text(json.dumps(facts))
    torch.save({"checkpoint_version": 3.0}, folder / "common.pt")


def write_nemo_distributed(
    path: Path,
    config: Mapping[str, Any],
    state: Mapping[str, tuple[Tensor, tuple[int, ...]]],
    *,
    tokenizer: bytes,
    backend: str,
) -> Path:
    """A ``.nemo`` tar as current NeMo saves it."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    (folder / "model_config.yaml").write_text(yaml.safe_dump(dict(config)))
    (folder / TOKENIZER_FILE).write_bytes(tokenizer)
    {"zarr": write_zarr, "torch_dist": write_torch_dist}[backend](folder / "model_weights", state)
    return pack(folder, path)
