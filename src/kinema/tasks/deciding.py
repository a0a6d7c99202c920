"""What decides a model's answers: keys of answers and settings of jobs are made of it.

Every setting of an engine counts unless it is marked where it is defined
(:func:`kinema.engines.settings.undecisive`), so that a setting that is new decides until somebody
has thought about it.
"""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kinema.engines import EngineSettings
from kinema.files import sha256_of
from kinema.tasks.models import Model, revision_of


def deciding(settings: EngineSettings) -> dict[str, Any]:
    """Every way of loading that may change an answer, ready for JSON."""
    return {
        f.name: getattr(settings, f.name)
        for f in fields(settings)
        if f.metadata.get("decides", True)
    }


def model_identity(model: Model, settings: EngineSettings) -> dict[str, Any]:
    """All that decides what a model answers to a request, :func:`deciding` included.

    Builds or downloads the checkpoint's small files when they are not there yet; loads no weights.
    The address of a server counts, because two servers may call different weights by one name: who
    moves a server to another address asks everything again.

    Raises:
        ModelError: the checkpoint cannot be found or read.
    """
    parts = {name: str(value) for name, value in asdict(model.parts).items() if value is not None}
    identity = deciding(settings) | {
        "model": model.name,
        "revision": revision_of(model.checkpoint),
        "parts": parts,
        "engine": model.engine,
    }
    if settings.adapter is not None:
        # An adapter is small, and trained again under the same name.
        files = sorted(path for path in Path(settings.adapter).glob("*") if path.is_file())
        identity["adapter_sha"] = {path.name: sha256_of(path) for path in files}
    if model.engine == "openai":
        address = urlsplit(settings.base_url or os.environ.get("OPENAI_BASE_URL", ""))
        place = address.netloc.rpartition("@")[2]  # without credentials
        identity |= {
            "served_model": settings.served_model or model.name,
            "base_url": urlunsplit((address.scheme, place, address.path.rstrip("/"), "", "")),
        }
    return identity
