"""Released LWM files to safetensors: one tensor at a time, so that memory stays small."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import cast

from kinema.errors import UsageError
from kinema.models.lwm.checkpoint import Files, configure, open_params, open_vqgan
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.stored import InMemory, StoredTensor, write_safetensors
from kinema.models.lwm.tokenizer import find_tokenizer

MODEL_TYPE = "lwm"


def convert(files: Files, target: Path, *, config: LWMConfig | None = None) -> dict[str, int]:
    """Write ``model.safetensors``, ``vqgan.safetensors``, ``config.json`` and the tokenizer.

    ``config.json`` is written last: a folder that has it is complete. The configuration is read,
    and the VQGAN looked at, before anything is written.

    Args:
        files: what the checkpoint is made of.
        target: a folder that does not exist yet or is empty.
        config: what the shapes cannot tell, such as theta; read off the file when None.

    Returns:
        How many tensors each file got.

    Raises:
        UsageError: the target holds files already.
        ModelError: a source file is damaged.
    """
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty.", hint="Convert into a new folder.")
    params = open_params(files.params)
    config = configure(params, files, config)
    vqgan = open_vqgan(files.vqgan) if files.vqgan is not None else {}
    find_tokenizer(files.tokenizer)
    target.mkdir(parents=True, exist_ok=True)
    counts = {"model.safetensors": _write(target / "model.safetensors", params)}
    if vqgan:
        counts["vqgan.safetensors"] = _write(target / "vqgan.safetensors", vqgan)
    _copy_tokenizer(files.tokenizer, target)
    _write_config(target / "config.json", config)
    return counts


def _write(path: Path, tensors: object) -> int:
    stored = cast(dict[str, StoredTensor | InMemory], tensors)
    write_safetensors(path, stored, {"format": "lwm"})
    return len(stored)


def _copy_tokenizer(source: Path, target: Path) -> None:
    file = find_tokenizer(source)
    shutil.copyfile(file, target / f"tokenizer{file.suffix}")


def _write_config(path: Path, config: LWMConfig) -> None:
    text = json.dumps({"model_type": MODEL_TYPE, "decoder": config.to_dict()}, indent=2)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, path)
