"""What a checkpoint folder says about itself, read without any framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinema.errors import ModelError, ModelNotFound


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: its configuration, its chat template and its control tokens."""

    name: str
    """What the user typed."""
    folder: Path | None
    """Where the files are; None for engines that keep no files."""
    config: Mapping[str, Any]
    """config.json."""
    chat_template: str = ""
    """Jinja source, empty when the checkpoint ships none."""
    control_tokens: tuple[str, ...] = ()
    """Strings that the tokenizer turns into single control tokens."""
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    """``bos_token`` and its like, which templates print."""
    processor: Mapping[str, Any] = field(default_factory=dict)
    """processor_config.json; ``image_processor`` and ``video_processor`` hold their settings."""


def read_checkpoint(name: str, folder: Path, *, config_required: bool = True) -> Checkpoint:
    """Read the small files of a checkpoint folder.

    Raises:
        ModelNotFound: there is no such folder, or no config.json in it and it needs one.
        ModelError: a file is not JSON.
    """
    config_file = folder / "config.json"
    if not config_file.is_file() and (config_required or not folder.is_dir()):
        raise ModelNotFound(
            f"{name} is a folder without config.json.",
            hint="Give a folder in Hugging Face layout, or a model name: see `kinema models`.",
        )
    tokenizer = _read_json(folder / "tokenizer_config.json")
    return Checkpoint(
        name=name,
        folder=folder,
        config=_read_json(config_file),
        chat_template=_chat_template(folder, tokenizer),
        control_tokens=_control_tokens(folder, tokenizer),
        special_tokens=_special_tokens(tokenizer),
        processor=_processor(folder),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ModelError(
            f"{path.name} of the checkpoint is not JSON: {problem}.",
            hint="The download may be incomplete; fetch the checkpoint again.",
        ) from problem
    return content if isinstance(content, dict) else {}


def _processor(folder: Path) -> dict[str, Any]:
    """The processors' settings in one place, also where transformers 4 wrote three files."""
    settings = _read_json(folder / "processor_config.json")
    images = _read_json(folder / "preprocessor_config.json")
    videos = _read_json(folder / "video_preprocessor_config.json") or images
    return {"image_processor": images, "video_processor": videos} | settings


def _chat_template(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """The template, from where transformers 5 or 4 would have written it."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    for holder in (_read_json(folder / "chat_template.json"), tokenizer):
        template = holder.get("chat_template", "")
        if isinstance(template, list):  # named templates, of which "default" is meant
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default", "")
        if template:
            return str(template)
    return ""


def _control_tokens(folder: Path, tokenizer: Mapping[str, Any]) -> tuple[str, ...]:
    added = _read_json(folder / "tokenizer.json").get("added_tokens", [])
    added += list(tokenizer.get("added_tokens_decoder", {}).values())
    found = {entry["content"] for entry in added}
    found.update(_special_tokens(tokenizer).values())
    # Some checkpoints list runs of spaces as added tokens; those are no control strings.
    return tuple(sorted(token for token in found if token.strip()))


def _special_tokens(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return str(value["content"] if isinstance(value, dict) else value)

    return {
        key: text(value) for key, value in tokenizer.items() if key.endswith("_token") and value
    }
