"""Settings: where they live on disk, how they are checked, and how they are fingerprinted.

Every setting of kinema is a field of a frozen dataclass; flags, YAML keys and documentation are
derived from it. This file holds what all of them share.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


def cache_dir() -> Path:
    """Where kinema keeps what it can make again: ``KINEMA_HOME``, or the user's cache folder."""
    if chosen := os.environ.get("KINEMA_HOME"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kinema"


def config_dir() -> Path:
    """Where kinema keeps what this person chose: ``KINEMA_HOME``, or the user's settings folder."""
    if chosen := os.environ.get("KINEMA_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kinema"


def choices_of(cls: type[Any]) -> Mapping[str, tuple[str, ...]]:
    """The fields of the dataclass ``cls`` that take one of a few words, and these words."""
    found = {}
    for name, hint in get_type_hints(cls).items():
        literals = [h for h in (hint, *get_args(hint)) if get_origin(h) is Literal]
        if literals:
            found[name] = get_args(literals[0])
    return found


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Sixteen hex digits that change exactly when a value of ``settings`` changes."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
