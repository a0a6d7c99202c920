"""A checkpoint as vLLM reads it: weight names and a setting or two.

transformers 5 writes CLIP and SigLIP towers as ``vision_tower.encoder``; checkpoints on the hub,
and vLLM's loaders, say ``vision_tower.vision_model.encoder``. Only the header of a safetensors
file holds names, so a renamed copy costs a header and a copy of the bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinema.config import cache_dir, fingerprint
from kinema.families import Family
from kinema.families.weights import read_header
from kinema.files import locked, whole_folder
from kinema.identity import identity_of

Names = tuple[tuple[str, str], ...]


def readable_folder(folder: Path, family: Family) -> Path:
    """The folder itself, or a copy of it in which names and settings are as vLLM reads them."""
    files = sorted(folder.glob("*.safetensors"))
    renames = family.vllm_weight_names
    renamed = any(_changed(read_header(file)[0], renames) for file in files)
    if not renamed and not family.vllm_video_processor:
        return folder
    changes = {"names": renames, "video_processor": dict(family.vllm_video_processor)}
    key = fingerprint({"weights": identity_of(folder)} | changes)
    copy = cache_dir() / "vllm" / key
    with locked(copy):
        if not (copy / "config.json").is_file():
            with whole_folder(copy) as draft:
                _copy(folder, files, draft, family)
    return copy


def _copy(folder: Path, files: list[Path], copy: Path, family: Family) -> None:
    for file in files:
        if _changed(read_header(file)[0], family.vllm_weight_names):
            _rename(file, copy / file.name, family.vllm_weight_names)
        else:
            (copy / file.name).symlink_to(file.resolve())
    for name, change in _CHANGES.items():
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            changed = json.dumps(change(content, family))
            (copy / name).write_text(changed, encoding="utf-8")
    for file in [f for f in folder.iterdir() if f.is_file() and not (copy / f.name).exists()]:
        shutil.copyfile(file, copy / file.name)


def _index(content: Any, family: Family) -> Any:
    names = content["weight_map"].items()
    return content | {"weight_map": {_new(n, family.vllm_weight_names): f for n, f in names}}


def _processors(content: Any, family: Family) -> Any:
    video = content.get("video_processor", {})
    return content | {"video_processor": video | family.vllm_video_processor}


_CHANGES: dict[str, Callable[[Any, Family], Any]] = {
    "model.safetensors.index.json": _index,
    "processor_config.json": _processors,
    "video_preprocessor_config.json": lambda content, f: content | f.vllm_video_processor,
}


def _rename(source: Path, target: Path, renames: Names) -> None:
    header, start = read_header(source)
    renamed = {_new(name, renames): entry for name, entry in header.items()}
    raw = json.dumps(renamed).encode()
    raw += b" " * (-len(raw) % 8)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(len(raw).to_bytes(8, "little") + raw)
        old.seek(start)
        shutil.copyfileobj(old, new, 1 << 24)


def _changed(header: dict[str, object], renames: Names) -> bool:
    return any(_new(name, renames) != name for name in header)


def _new(name: str, renames: Names) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
