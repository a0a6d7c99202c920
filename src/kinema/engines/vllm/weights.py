"""Weights that transformers 5 saved, under the names that vLLM reads.

transformers 5 writes CLIP and SigLIP towers as ``vision_tower.encoder``; checkpoints on the hub,
and vLLM's loaders, say ``vision_tower.vision_model.encoder``. Only the header of a safetensors
file holds names, so a renamed copy costs a header and a copy of the bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path

from kinema.config import cache_dir

Names = tuple[tuple[str, str], ...]


def with_readable_names(folder: Path, renames: Names) -> Path:
    """The folder itself, or a copy of it whose weights have the names that vLLM reads."""
    files = sorted(folder.glob("*.safetensors"))
    if not any(_changed(_header(file)[0], renames) for file in files):
        return folder
    copy = cache_dir() / "vllm" / _key(files)
    if not (copy / "config.json").is_file():
        _copy(folder, files, copy, renames)
    return copy


def _copy(folder: Path, files: list[Path], copy: Path, renames: Names) -> None:
    copy.mkdir(parents=True, exist_ok=True)
    for file in files:
        _rename(file, copy / file.name, renames)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {_new(n, renames): f for n, f in content["weight_map"].items()}
        (copy / index.name).write_text(json.dumps(content), encoding="utf-8")
    small = [f for f in folder.iterdir() if f.is_file() and not (copy / f.name).exists()]
    # config.json comes last: a folder without it is not a finished copy.
    for file in sorted(small, key=lambda f: f.name == "config.json"):
        shutil.copyfile(file, copy / file.name)


def _rename(source: Path, target: Path, renames: Names) -> None:
    header, start = _header(source)
    renamed = {_new(name, renames): entry for name, entry in header.items()}
    raw = json.dumps(renamed).encode()
    raw += b" " * (-len(raw) % 8)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(struct.pack("<Q", len(raw)) + raw)
        old.seek(start)
        shutil.copyfileobj(old, new, 1 << 24)


def _header(file: Path) -> tuple[dict[str, object], int]:
    """The names in a safetensors file and where its data begins."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length)), 8 + length


def _changed(header: dict[str, object], renames: Names) -> bool:
    return any(_new(name, renames) != name for name in header)


def _new(name: str, renames: Names) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _key(files: list[Path]) -> str:
    facts = [f"{f.resolve()} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files]
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=12).hexdigest()
