"""The model of commands that name none: what this person chose, else the built-in spotter."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from kinema.config import config_dir
from kinema.engines import ENGINES
from kinema.errors import ModelNotFound, UnknownName
from kinema.families import FAMILIES
from kinema.files import whole_file
from kinema.tasks.models import DEFAULT_MODEL, built_in_names, current_name

VIDEO_MODEL = FAMILIES["smolvlm"].example
"""A small model that answers questions about videos, offered to whoever has chosen none."""
_FILE = "chosen.json"
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_TIMEOUT_SECONDS = 3.0


def chosen_model() -> str | None:
    """What ``kinema models use`` was told; None where nothing was, or its file cannot be read."""
    try:
        found = json.loads((config_dir() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = found.get("model") if isinstance(found, dict) else None
    return name if isinstance(name, str) and name else None


def default_model() -> str:
    """The model of a command that names none."""
    return chosen_model() or DEFAULT_MODEL


def choose_model(name: str) -> str:
    """Remember a model for all commands that name none.

    Args:
        name: as ``--model`` takes it. A folder is remembered by its whole path; nothing is fetched.

    Returns:
        What was remembered.

    Raises:
        UnknownName: no built-in model is called so.
        ModelNotFound: there is no such folder.
    """
    name = _checked(current_name(name))
    folder = config_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / _FILE) as draft:
        draft.write_text(json.dumps({"model": name}) + "\n", encoding="utf-8")
    return name


def _checked(name: str) -> str:
    prefix, colon, rest = name.partition(":")
    if colon and prefix in FAMILIES:
        return f"{prefix}:{_checked(rest)}"
    path = Path(name).expanduser()
    if path.exists():
        return str(path.resolve())
    if name in built_in_names() or _HUB_NAME.fullmatch(name):
        return name
    if "/" in name:
        raise ModelNotFound(
            f"There is no model folder {name}.", hint="Write a folder's path, or owner/name."
        )
    raise UnknownName("model", name, built_in_names())


def hub_problem() -> str:
    """Why the model hub cannot be asked; empty where its address answers."""
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return "switched off by HF_HUB_OFFLINE"
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _HUB_TIMEOUT_SECONDS).close()
    except OSError as problem:
        return f"{address.hostname} cannot be reached ({problem})"
    return ""


def can_fetch() -> bool:
    """Whether the offered model could be fetched and run here."""
    return not ENGINES["hf"].missing and not hub_problem()
