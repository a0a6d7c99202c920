"""Foreign checkpoints: put together, converted once into the cache, used from there."""

from __future__ import annotations

import fcntl
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kinema.config import cache_dir, fingerprint
from kinema.errors import UsageError
from kinema.families import Checkpoint, Family
from kinema.families.templates import template_named
from kinema.lazy import load
from kinema.version import __version__


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
        template = template_named(self.conv_mode).with_ends(
            bos=tokens.get("bos_token", "<s>"), eos=tokens.get("eos_token", "</s>")
        )
        return replace(checkpoint, chat_template=template.jinja)


def import_checkpoint(family: Family, path: Path, parts: CheckpointParts) -> Path:
    """The folder of ours that a foreign checkpoint becomes; made when it is not in the cache.

    Raises:
        ModelError: the checkpoint or one of its parts cannot be used.
    """
    folder = cache_dir() / "imported" / f"{family.name}-{_key(family, path, parts)}"
    with alone(folder):
        if not (folder / "config.json").is_file():
            convert_checkpoint(family, path, parts, folder)
    return folder


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
    template = template_named(parts.conv_mode or imported.template).with_ends(
        bos=tokenizer.bos_token or "<s>", eos=tokenizer.eos_token or "</s>"
    )
    saved: Path = imported.save(folder, chat_template=template.jinja, stop=template.stop)
    return saved


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process makes this folder meanwhile; waits for one that does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key(family: Family, path: Path, parts: CheckpointParts) -> str:
    """Changes when a file of the checkpoint does."""
    named = {name: str(value) for name, value in asdict(parts).items() if value is not None}
    sources = [path, *(Path(value) for value in named.values())]
    found = [stamp for source in sources for stamp in stamps(source)]
    return fingerprint({"importer": family.importer, "by": __version__} | named | {"files": found})


def stamps(source: Path) -> Iterator[list[str | int]]:
    """What changes when a file does, of every file of a folder or of one file."""
    if not source.exists():
        return
    for file in [source] if source.is_file() else sorted(source.iterdir()):
        stat = file.stat()
        yield [str(file.resolve()), stat.st_size, stat.st_mtime_ns]
