"""Checkpoints by name: from the local hub cache, or downloaded into it."""

from __future__ import annotations

from collections.abc import Sequence
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
