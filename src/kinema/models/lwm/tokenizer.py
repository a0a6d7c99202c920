"""The LLaMA tokenizer, from the ``tokenizer.model`` of a checkpoint or a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as TokenizersTokenizer

from kinema.errors import ModelError, ModelNotFound


class Tokenizer(Protocol):
    """Plain text to ids and back; control tokens are never read out of a user's words."""

    bos_id: int
    eos_id: int
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, nothing added."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Load ``tokenizer.model`` or ``tokenizer.json``, given as a file or by its folder.

    Raises:
        ModelNotFound: neither file is there.
        ModelError: the file is no tokenizer.
    """
    file = find_tokenizer(path)
    try:
        return JsonTokenizer(file) if file.suffix == ".json" else ModelTokenizer(file)
    except Exception as error:  # both libraries raise bare exceptions
        raise ModelError(f"{file} is no tokenizer: {error}.", hint=_HINT) from None


def find_tokenizer(path: Path) -> Path:
    """The tokenizer's file, given it or its folder.

    Raises:
        ModelNotFound: it is not there.
    """
    if not path.exists():
        raise ModelNotFound(f"There is no tokenizer {path}.", hint=_HINT)
    if path.is_file():
        return path
    for file in (path / "tokenizer.model", path / "tokenizer.json"):
        if file.is_file():
            return file
    raise ModelNotFound(f"{path} holds no tokenizer.model or tokenizer.json.", hint=_HINT)


_HINT = "Every released LWM checkpoint has a tokenizer.model; give its path with --tokenizer."


class ModelTokenizer:
    """A sentencepiece model, as the weights were trained with."""

    def __init__(self, file: Path) -> None:
        self._model = SentencePieceProcessor(model_file=str(file))
        self.bos_id: int = self._model.bos_id()
        self.eos_id: int = self._model.eos_id()
        self.vocab_size: int = self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; ``<s>`` inside is three characters."""
        ids: list[int] = self._model.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        text: str = self._model.decode([int(i) for i in ids if i < self.vocab_size])
        return text


class JsonTokenizer:
    """A ``tokenizer.json``, as transformers writes it."""

    def __init__(self, file: Path) -> None:
        self._model = TokenizersTokenizer.from_file(str(file))
        self._model.encode_special_tokens = True
        self.bos_id = self._id("<s>", file)
        self.eos_id = self._id("</s>", file)
        self.vocab_size = self._model.get_vocab_size()

    def _id(self, token: str, file: Path) -> int:
        found: int | None = self._model.token_to_id(token)
        if found is None:
            raise ModelError(f"{file} has no token {token}.", hint=_HINT)
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; ``<s>`` inside is three characters."""
        ids: list[int] = self._model.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens left out."""
        text: str = self._model.decode([int(i) for i in ids], skip_special_tokens=True)
        return text
