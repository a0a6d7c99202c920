"""What fills the shorter rows of a batch where a tokenizer has nothing for it."""

from __future__ import annotations

from typing import Any


def with_padding(tokenizer: Any) -> Any:
    """The tokenizer, with a padding token where it has none, as Llama 2 and 3 are released.

    It is the unknown token or else the end mark: no model sees it, because padding is masked.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer
