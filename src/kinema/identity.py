"""What tells one model's weights from another's: the SHA-256 of the content, wherever it lies.

Two files of one size, an adapter that was trained again in place and a folder that was merged
again are different; the same bytes in another folder, or on another machine, are the same. A hash
is computed once: that of a large file is kept on disk under its path, size, times and inode, and a
file in the cache of the Hugging Face hub is called by its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from kinema.config import cache_dir
from kinema.errors import ModelError
from kinema.files import FileState, sha256_of, write_atomically

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGE_BYTES = 1 << 22
_THREADS = 4

_UNDECIDING = (
    *(".*", "*.md", "readme*", "license*", "notice*", "sha256sums", "*.lock", "*.log"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.pdf"),
    # What a trainer leaves beside the weights to go on from them.
    *("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json"),
    *("training_args.bin", "events.out.tfevents*", "log.jsonl"),
)
"""Files of a model's folder that no answer depends on; every other file counts."""


def identity_of(source: Path, *, nested: bool = False) -> str:
    """SHA-256 of a model's files, their names and contents: 64 hexadecimal digits.

    Args:
        source: a file, or a folder of weights, settings, tokenizer, template and processor.
        nested: files of folders in it count too, as in an unpacked archive.

    Raises:
        ModelError: it is not there, or a file cannot be read.
    """
    try:
        if not source.is_dir():
            return weights_sha256(source)
        files = sorted(_deciding_files(source, nested=nested))
        with ThreadPoolExecutor(_THREADS, "kinema-hash") as pool:
            sums = list(pool.map(weights_sha256, files))
    except OSError as problem:
        raise ModelError(
            f"{problem.filename or source} cannot be read: {problem.strerror}.",
            hint="Check the path, and that the files may be read.",
        ) from problem
    named = zip(files, sums, strict=True)
    lines = (f"{file.relative_to(source).as_posix()} {found}\n" for file, found in named)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_of(source: str, *, nested: bool = False) -> str:
    """:func:`identity_of` what the user named; a name that means no file here, itself.

    Raises:
        ModelError: a file cannot be read.
    """
    path = Path(source).expanduser()
    return identity_of(path, nested=nested) if path.exists() else source


def weights_sha256(file: Path) -> str:
    """SHA-256 of one file, 64 hexadecimal digits; one that is known is not computed again.

    Raises:
        OSError: the file is not there, or cannot be read.
    """
    if (known := hub_sha256(file)) is not None:
        return known
    state = FileState.of(file)
    if state.size < _LARGE_BYTES or not state.is_settled:
        return sha256_of(file)
    path = str(file.absolute())
    note = cache_dir() / "sha256" / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"
    about = {"file": path, "state": list(state)}
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        if {name: kept[name] for name in about} == about:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing is kept, or it is damaged
    found = sha256_of(file)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(about | {"sha256": found}) + "\n")
    except OSError:
        pass  # the cache cannot be written, or another process writes the same note
    return found


def hub_sha256(file: Path) -> str | None:
    """The hash by which the hub's cache calls a large file; None for any other file."""
    name = file.resolve().name if file.is_symlink() else ""
    return name if _SHA256.fullmatch(name) else None


def _deciding_files(folder: Path, *, nested: bool) -> Iterator[Path]:
    for path in folder.iterdir():
        if any(fnmatch(path.name.lower(), pattern) for pattern in _UNDECIDING):
            continue
        if path.is_file():
            yield path
        elif nested and path.is_dir():
            yield from _deciding_files(path, nested=True)
