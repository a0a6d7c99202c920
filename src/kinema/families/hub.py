"""Checkpoints by name: from the local hub cache, or downloaded into it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from kinema.errors import ModelNotFound

_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")
"""Weights as safetensors only: a pickle can run code when it is read."""


def download(name: str, *, patterns: Sequence[str] = _PATTERNS) -> Path:
    """The folder of the hub model ``name``; fetched when it is not in the cache.

    Args:
        name: ``owner/name``.
        patterns: which of its files are wanted.

    Raises:
        ModelNotFound: the hub does not have it, or cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download  # noqa: PLC0415  only names need it

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except errors.RepositoryNotFoundError as problem:
        raise ModelNotFound(
            f"The hub has no model {name!r}, or it is private.",
            hint="Check the spelling; for a private one set HF_TOKEN.",
        ) from problem
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError,
            OSError) as problem:  # fmt: skip
        raise ModelNotFound(
            f"{name!r} is not in the local cache and the model hub cannot be reached.",
            hint="Use a folder with --model PATH, the built-in --model spotter, or go online once.",
        ) from problem
    except ValueError as problem:
        raise ModelNotFound(f"{name!r} is no model name.", hint="Write owner/name.") from problem


def size_of(name: str) -> int:
    """Bytes of the files that :func:`download` fetches; 0 where the hub does not say."""
    from huggingface_hub import HfApi, errors  # noqa: PLC0415  only names need it

    try:
        files = HfApi().model_info(name, files_metadata=True, timeout=10).siblings or []
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError):
        return 0
    wanted = (f for f in files if any(fnmatch(f.rfilename, pattern) for pattern in _PATTERNS))
    return sum(f.size or 0 for f in wanted)
