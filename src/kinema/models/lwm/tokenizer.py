"""The LLaMA tokenizer, from the ``tokenizer.model`` of a checkpoint or a ``tokenizer.json``."""

from __future__ import annotations

from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as TokenizersTokenizer

from kinema.errors import ModelError, ModelNotFound
from kinema.models.lwm.prompt import Tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load ``tokenizer.model`` or ``tokenizer.json``, given as a file or by its folder.

    Raises:
        ModelNotFound: neither file is there.
        ModelError: the file is no tokenizer.
    """
    file = find_tokenizer(path)
    try:
        return _of_json(file) if file.suffix == ".json" else _of_model(file)
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


def _of_model(file: Path) -> Tokenizer:
    """A sentencepiece model, as the weights were trained with."""
    model = SentencePieceProcessor(model_file=str(file))
    size: int = model.vocab_size()
    return Tokenizer(
        bos_id=model.bos_id(),
        eos_id=model.eos_id(),
        vocab_size=size,
        encode=model.encode,
        decode=lambda ids: model.decode([int(i) for i in ids if i < size]),
    )


def _of_json(file: Path) -> Tokenizer:
    """A ``tokenizer.json``, as transformers writes it."""
    model = TokenizersTokenizer.from_file(str(file))
    model.encode_special_tokens = True
    begin, end = model.token_to_id("<s>"), model.token_to_id("</s>")
    if begin is None or end is None:
        absent = "<s>" if begin is None else "</s>"
        raise ModelError(f"{file} has no token {absent}.", hint=_HINT)
    return Tokenizer(
        bos_id=begin,
        eos_id=end,
        vocab_size=model.get_vocab_size(),
        encode=lambda text: model.encode(text, add_special_tokens=False).ids,
        decode=lambda ids: model.decode([int(i) for i in ids], skip_special_tokens=True),
    )
