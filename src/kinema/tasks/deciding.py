"""What decides a model's answers: keys of answers and settings of jobs are made of it.

Every setting of an engine counts unless it is marked where it is defined
(:func:`kinema.engines.settings.undecisive`), so that a setting that is new decides until somebody
has thought about it.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kinema.engines import EngineSettings
from kinema.identity import content_of, identity_of
from kinema.tasks.models import Model


def deciding(settings: EngineSettings) -> dict[str, Any]:
    """Every way of loading that may change an answer, ready for JSON."""
    return {
        f.name: getattr(settings, f.name)
        for f in fields(settings)
        if f.metadata.get("decides", True)
    }


def model_identity(model: Model, settings: EngineSettings) -> dict[str, Any]:
    """All that decides what a model answers to a request, :func:`deciding` included.

    A model is known by the content of its files, not by its name or place. Builds or downloads
    them when they are not there yet; reads weights once to know their SHA-256, and loads none.
    The address of a server counts, because two servers may call different weights by one name: who
    moves a server to another address asks everything again.

    Raises:
        ModelError: the checkpoint or the adapter cannot be found or read.
    """
    folder = model.checkpoint.folder
    identity = deciding(settings) | {
        "family": model.family.name,
        "revision": model.family.revision if folder is None else identity_of(folder),
        "conv_mode": model.parts.conv_mode,
        "engine": model.engine,
    }
    if settings.adapter is not None:
        identity["adapter"] = content_of(settings.adapter)
    if model.engine == "openai":
        address = urlsplit(settings.base_url or os.environ.get("OPENAI_BASE_URL", ""))
        place = address.netloc.rpartition("@")[2]  # without credentials
        identity |= {
            "served_model": settings.served_model or model.name,
            "base_url": urlunsplit((address.scheme, place, address.path.rstrip("/"), "", "")),
        }
    return identity
