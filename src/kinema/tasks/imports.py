"""Foreign checkpoints: put together, converted once into the cache, used from there."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kinema.config import cache_dir, fingerprint
from kinema.errors import UsageError
from kinema.families import Checkpoint, Family
from kinema.families.templates import TEMPLATES
from kinema.files import locked, require_format, write_json
from kinema.identity import content_of
from kinema.lazy import load

_FORMAT = 1
"""Of cached folders, in a file of their own; 0.1.0 wrote this format, and no number."""
_NUMBER = "kinema_format.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointParts:
    """What a checkpoint that comes in pieces is put together from."""

    projection: Path | None = None
    """Video-ChatGPT: mm_projector.bin, video_chatgpt-7B.bin or the fork's model.bin."""
    base_model: Path | None = None
    """Video NeVA: the language model of an archive that holds a projector alone."""
    delta_base: Path | None = None
    """Video-ChatGPT: the LLaMA folder that the base holds the difference to."""
    vision_tower: str | None = None
    """Vision tower, folder or name, instead of the one that the checkpoint names."""
    tokenizer: str | None = None
    """Tokenizer, folder or name, instead of the checkpoint's own."""
    conv_mode: str | None = None
    """Conversation template instead of the one that the checkpoint was trained with."""

    def with_template(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint, asked with the chosen template."""
        if self.conv_mode is None:
            return checkpoint
        tokens = checkpoint.special_tokens
        template = TEMPLATES[self.conv_mode].with_ends(
            bos=tokens.get("bos_token"), eos=tokens.get("eos_token")
        )
        return replace(checkpoint, chat_template=template.jinja)


def import_checkpoint(family: Family, path: Path, parts: CheckpointParts) -> Path:
    """The folder of ours that a foreign checkpoint becomes; made when it is not in the cache.

    Raises:
        ModelError: the checkpoint or one of its parts cannot be used.
    """
    folder = cache_dir() / "imported" / f"{family.name}-{_key(family, path, parts)}"
    return cached_folder(folder, lambda: convert_checkpoint(family, path, parts, folder))


def convert_checkpoint(family: Family, path: Path, parts: CheckpointParts, folder: Path) -> Path:
    """Write a foreign checkpoint to a folder of ours."""
    importer = load(family.importer)
    given = {k: v for k, v in asdict(parts).items() if v is not None and k != "conv_mode"}
    for name in given:
        if name not in inspect.signature(importer).parameters:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{family.title} takes no {flag}.", hint="See kinema chat --help.")
    imported = importer(path, **given)
    tokenizer = imported.tokenizer
    template = TEMPLATES[parts.conv_mode or imported.template].with_ends(
        bos=tokenizer.bos_token, eos=tokenizer.eos_token
    )
    saved: Path = imported.save(folder, chat_template=template.jinja, stop=template.stop)
    return saved


def cached_folder(folder: Path, make: Callable[[], object]) -> Path:
    """A model's folder in the cache, made when it is not there yet; waits for who makes it.

    Raises:
        UsageError: another version of kinema made it in a format of its own.
    """
    number = folder / _NUMBER
    with locked(folder):
        if not (folder / "config.json").is_file():
            make()
            write_json(number, {"format": _FORMAT})
        elif number.is_file():
            found = json.loads(number.read_text(encoding="utf-8"))["format"]
            hint = f"Have it made again: rm -r {folder}"
            require_format(folder, found, _FORMAT, hint=hint)
    return folder


def _key(family: Family, path: Path, parts: CheckpointParts) -> str:
    """Changes with the content of the checkpoint and its parts, not with their places."""
    given = {name: str(part) for name, part in asdict(parts).items() if part is not None}
    given["path"] = str(path)
    sources = {name: content_of(source, nested=True) for name, source in given.items()}
    return fingerprint({"importer": family.importer} | sources)
