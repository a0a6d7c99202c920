"""LLaMA's tokenizer as transformers first had it, from folders that hold its sentencepiece model.

LLaVA-Lightning and Vicuna 1.1 were trained with it. Newer ones say ``"legacy": false`` in
``tokenizer_config.json``. Files: ``tokenizer.model``; ``added_tokens.json``, from token to id.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils import cached_file

from kinema.errors import ModelError
from kinema.models.importers.pieces import PIECES_FILE, read_pieces

_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast", "LLaMATokenizer", None)


def read_first_llama(name: str | Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder or of the hub's cache, or nothing where it is a newer one.

    Raises:
        ModelError: ``added_tokens.json`` has other ids than the tokens get.
        MissingPackage: protobuf is not installed.
    """
    pieces = _find(name, PIECES_FILE)
    if pieces is None or _find(name, "tokenizer.json") is not None:
        return None
    settings = _read(_find(name, "tokenizer_config.json"))
    if settings.get("tokenizer_class") not in _CLASSES or settings.get("legacy") is False:
        return None
    added = _added(name, settings)
    tokenizer = read_pieces(
        pieces.read_bytes(),
        added=sorted(added, key=added.__getitem__),
        apart=True,
        begins=settings.get("add_bos_token", True),
    )
    for token, number in added.items():
        if (found := tokenizer.convert_tokens_to_ids(token)) != number:
            raise ModelError(
                f"{name} gives {token} the id {number}, and it would be {found}.",
                hint="Is tokenizer.model the one that added_tokens.json belongs to?",
            )
    tokenizer.padding_side = settings.get("padding_side") or "right"
    return tokenizer


def _added(name: str | Path, settings: dict[str, Any]) -> dict[str, int]:
    """Added tokens and their ids; versions of 2023 wrote them into tokenizer_config.json."""
    newer = settings.get("added_tokens_decoder") or {}
    of_settings = {entry["content"]: int(number) for number, entry in newer.items()}
    return of_settings | _read(_find(name, "added_tokens.json"))


def _find(name: str | Path, file: str) -> Path | None:
    found = cached_file(
        name,
        file,
        local_files_only=True,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _read(file: Path | None) -> dict[str, Any]:
    return {} if file is None else dict(json.loads(file.read_text(encoding="utf-8")))
