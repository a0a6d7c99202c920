"""A checkpoint's weight files, checked before any framework opens one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinema.errors import ModelError, UnsafeModel
from kinema.files import sha256_of
from kinema.identity import hub_sha256

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_weights(folder: Path, *, verify: bool = False) -> None:
    """Make sure that a folder holds whole safetensors weights.

    Args:
        folder: a checkpoint folder.
        verify: also compare each file with its published sha256, where the folder knows it (a
            hub cache names files by it; SHA256SUMS lists it).

    Raises:
        UnsafeModel: the only weights are pickles, which can run code when they are read.
        ModelError: a file is missing, cut short or altered.
    """
    # A hub cache names a file before it has it: the name then leads nowhere.
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    pickles = [p.name for pattern in _PICKLES for p in sorted(folder.glob(pattern))]
    if not files and pickles:
        raise UnsafeModel(
            f"{folder.name} holds its weights only as pickles ({pickles[0]}), "
            "and reading a pickle can run code.",
            hint="Take a revision with *.safetensors, or convert it on a machine you can lose.",
        )
    for name in _missing(folder, files):
        raise _incomplete(folder, f"{name} is missing")
    for file in files:
        _check_length(folder, file)
        published = _published_sum(folder, file) if verify else None
        if published is not None and sha256_of(file) != published:
            raise _incomplete(folder, f"{file.name} does not match its checksum")


def check_no_code(name: str, config: Mapping[str, Any], *, known: bool) -> None:
    """Refuse a checkpoint that can only be loaded by running its own Python files.

    Raises:
        UnsafeModel: its config names code (``auto_map``) and nobody else has its class.
    """
    if config.get("auto_map") and not known:
        raise UnsafeModel(
            f"{name} can only be loaded by running Python files that it brings.",
            hint="Read them first; then pass --trust-remote-code. Or look for a version in "
            "transformers' own layout, often named -hf.",
        )


def _missing(folder: Path, files: list[Path]) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [] if files else ["model.safetensors"]
    try:
        listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError) as problem:
        raise _incomplete(folder, f"{index.name} cannot be read") from problem
    return sorted(listed - {file.name for file in files})


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file holds, by name, and where its data begins.

    Raises:
        ValueError: it is cut short or damaged.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if 8 + length > file.stat().st_size:
            raise ValueError("it is shorter than its header")
        return json.loads(stream.read(length)), 8 + length


def _check_length(folder: Path, file: Path) -> None:
    """A safetensors file says in its header how long it is."""
    try:
        header, start = read_header(file)
    except ValueError as problem:
        raise _incomplete(folder, f"{file.name} is cut short or damaged") from problem
    ends = (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    if start + max(ends, default=0) != file.stat().st_size:
        raise _incomplete(folder, f"{file.name} is cut short")


def _published_sum(folder: Path, file: Path) -> str | None:
    if (named := hub_sha256(file)) is not None:
        return named
    sums = folder / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    listed = {name.strip(" *"): digest for digest, _, name in (x.partition(" ") for x in lines)}
    return listed.get(file.name)


def _incomplete(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"The checkpoint {folder.name} is not whole: {what}.",
        hint="Fetch it again: hf download NAME resumes where it stopped.",
    )
