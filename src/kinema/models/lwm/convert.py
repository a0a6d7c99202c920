"""Released LWM files to safetensors: one tensor at a time, so that memory stays small."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import cast

from kinema.errors import UsageError
from kinema.files import whole_folder, write_json
from kinema.models.lwm.checkpoint import Files, configure, open_params, open_vqgan
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.stored import InMemory, StoredTensor, write_safetensors
from kinema.models.lwm.tokenizer import find_tokenizer

MODEL_TYPE = "lwm"


def convert(files: Files, target: Path, *, config: LWMConfig | None = None) -> dict[str, int]:
    """Write ``model.safetensors``, ``vqgan.safetensors``, ``config.json`` and the tokenizer.

    The folder appears whole or not at all. The configuration is read, and the VQGAN looked at,
    before anything is written.

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
    tokenizer = find_tokenizer(files.tokenizer)
    written = {"model.safetensors": params} | ({"vqgan.safetensors": vqgan} if vqgan else {})
    with whole_folder(target) as draft:
        for name, tensors in written.items():
            stored = cast(dict[str, StoredTensor | InMemory], tensors)
            write_safetensors(draft / name, stored, {"format": "lwm"})
        shutil.copyfile(tokenizer, draft / f"tokenizer{tokenizer.suffix}")
        described = {"model_type": MODEL_TYPE, "decoder": asdict(config)}
        write_json(draft / "config.json", described)
    return {name: len(tensors) for name, tensors in written.items()}
