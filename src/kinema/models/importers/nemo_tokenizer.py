"""Which tokenizer an archive of NeVA was trained with, and the tokens that it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinema.errors import ModelError
from kinema.models.importers.nemo_archive import NemoArchive
from kinema.models.importers.parts import read_tokenizer
from kinema.models.importers.pieces import PIECES_FILE, read_pieces

EXTRA_TOKENS = tuple(f"<extra_id_{i}>" for i in range(8))
MEDIA_TOKENS = ("<extra_id_3>", "<extra_id_4>", "<extra_id_5>")
"""Patch, start and end, for images and videos alike."""
LLAMA_3_MEDIA_TOKENS = tuple(f"<|reserved_special_token_{i}|>" for i in (3, 4, 5))


def media_tokens(model_type: str | None) -> tuple[str, ...]:
    """Patch, start and end of a kind of language model, ``mm_cfg.llm.model_type``."""
    return LLAMA_3_MEDIA_TOKENS if model_type == "llama_3" else MEDIA_TOKENS


def neva_tokenizer(
    nemo: NemoArchive,
    base: NemoArchive | Path | None,
    *,
    given: str | Path | None,
    media: Sequence[str],
    template: str,
) -> Any:
    """The tokenizer of an archive, with the tokens that prompts of NeVA consist of.

    Args:
        nemo: the archive; the sentencepiece model in it is what it was trained with.
        base: the language model below a projector, which may have a tokenizer too.
        given: instead of both: a folder, a name, or a sentencepiece model.
        media: patch, start and end.
        template: conversation template.

    Raises:
        ModelError: there is none.
    """
    own = (nemo.config.get("tokenizer") or {}).get("additional_special_tokens") or ()
    return with_neva_tokens(_find(nemo, base, given), own, media=media, template=template)


def tokenizer_to_train(
    base: NemoArchive | Path | str, *, media: Sequence[str], template: str
) -> Any:
    """The tokenizer of a language model that a NeVA is going to be trained on.

    Raises:
        ModelError: it has none.
    """
    if isinstance(base, NemoArchive):
        return with_neva_tokens(_find(base, None, None), media=media, template=template)
    found = _pieces_at(Path(base)) or base
    return with_neva_tokens(found, media=media, template=template)


def with_neva_tokens(
    found: bytes | str | Path, own: Sequence[str] = (), *, media: Sequence[str], template: str
) -> Any:
    """The tokenizer that was found, with the tokens that prompts of NeVA consist of.

    Args:
        found: a sentencepiece model, or what transformers makes a tokenizer of.
        own: tokens that come before NeVA's.
        media: patch, start and end.
        template: conversation template; that of Mistral has a begin mark of its own.
    """
    wanted = media if tuple(media) == LLAMA_3_MEDIA_TOKENS else EXTRA_TOKENS
    if isinstance(found, bytes):
        return read_pieces(found, added=wanted, begin_first=template != "mistral")
    tokenizer = read_tokenizer(found)
    tokenizer.add_tokens(list(dict.fromkeys([*own, *wanted])), special_tokens=True)
    return tokenizer


def _find(
    nemo: NemoArchive, base: NemoArchive | Path | None, given: str | Path | None
) -> bytes | str | Path:
    """A sentencepiece model, or what transformers makes a tokenizer of."""
    if given is not None:
        return _pieces_at(Path(given)) or given
    own = nemo.pieces or (base.pieces if isinstance(base, NemoArchive) else None)
    if own is not None:
        return own
    if isinstance(base, Path):
        if pieces := _pieces_at(base):
            return pieces
        if (base / "tokenizer_config.json").is_file():
            return base
    named = nemo.config.get("tokenizer") or {}
    if named.get("library") == "huggingface" and named.get("type"):
        return str(named["type"])
    raise ModelError(
        "Neither the archive nor its language model has a tokenizer.",
        hint="Give it with --tokenizer: a tokenizer.model, or a Hugging Face folder.",
    )


def _pieces_at(path: Path) -> bytes | None:
    """The sentencepiece model that a path is, or that a folder holds."""
    file = path / PIECES_FILE if path.is_dir() else path
    return file.read_bytes() if file.suffix == ".model" and file.is_file() else None
